package web

// searchRoutes find people, accounts, apps, entitlements and connectors.
func (s *Server) searchRoutes() []Route { return nil }
