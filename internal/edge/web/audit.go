package web

// auditRoutes are the audit log.
func (s *Server) auditRoutes() []Route { return nil }
