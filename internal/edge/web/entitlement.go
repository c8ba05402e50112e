package web

// entitlementRoutes are the page of an entitlement.
func (s *Server) entitlementRoutes() []Route { return nil }
