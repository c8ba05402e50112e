package web

// homeRoutes are the first page.
func (s *Server) homeRoutes() []Route { return nil }
