package web

// meRoutes are a person's own sessions, access and password.
func (s *Server) meRoutes() []Route { return nil }
