// Command gen writes connector/config/conf.gen.go from the settings.
package main

import (
	"github.com/conductorone/baton-sdk/pkg/config"

	cfg "airlock/connector/config"
)

func main() {
	config.Generate("airflow", cfg.Config)
}
