package web

// appRoutes are the apps and their tabs.
func (s *Server) appRoutes() []Route { return nil }
