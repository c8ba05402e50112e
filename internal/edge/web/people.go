package web

// peopleRoutes are the directory and a person's page.
func (s *Server) peopleRoutes() []Route { return nil }
