package web

// settingRoutes are what administrators set: sign-in, product roles, keys and checkpoints.
func (s *Server) settingRoutes() []Route { return nil }
