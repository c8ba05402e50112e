package web

// accountRoutes are the page of an account.
func (s *Server) accountRoutes() []Route { return nil }
