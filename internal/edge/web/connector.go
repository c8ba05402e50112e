package web

// connectorRoutes are the connectors: list, add, and each one's page.
func (s *Server) connectorRoutes() []Route { return nil }
