package web

// doorRoutes are signing in, by password or single sign-on, and the set-up of the first administrator.
func (s *Server) doorRoutes() []Route { return nil }
