package airflowtest

import (
	_ "embed"
	"encoding/json"
	"fmt"
)

//go:embed company.json
var companyJSON []byte

// CompanyData is a small company as Airflow sees it: who is there, what the
// custom roles may do, which DAGs run. It is the one source of the in-memory
// Airflow and of the real ones.
type CompanyData struct {
	About string        `json:"about"`
	Users []CompanyUser `json:"users"`
	Roles []CompanyRole `json:"roles"`
	DAGs  []CompanyDAG  `json:"dags"`
}

// CompanyUser is an account. Password is empty for one that cannot sign in.
// Roles may be empty, and may name built-in roles such as Op.
type CompanyUser struct {
	Username  string   `json:"username"`
	Email     string   `json:"email"`
	FirstName string   `json:"first_name"`
	LastName  string   `json:"last_name"`
	Roles     []string `json:"roles"`
	Active    bool     `json:"active"`
	Password  string   `json:"password,omitempty"`
}

// CompanyRole is a custom role. Each permission is an action and a resource,
// such as {"can_read", "DAGs"}. What a DAG's AccessControl gives comes on top.
type CompanyRole struct {
	Name        string      `json:"name"`
	Permissions [][2]string `json:"permissions"`
}

// CompanyDAG is a DAG. Schedule is a cron expression or a preset, empty for
// none. AccessControl maps role → "DAGs" or "DAG Runs" → actions; Airflow
// stores them as permissions on "DAG:<id>" and "DAG Run:<id>".
type CompanyDAG struct {
	ID            string                         `json:"dag_id"`
	Description   string                         `json:"description"`
	Owners        []string                       `json:"owners"`
	Tags          []string                       `json:"tags"`
	Paused        bool                           `json:"paused"`
	Schedule      string                         `json:"schedule"`
	AccessControl map[string]map[string][]string `json:"access_control,omitempty"`
}

// Company returns a fresh copy of the company of company.json.
func Company() CompanyData {
	var company CompanyData
	if err := json.Unmarshal(companyJSON, &company); err != nil {
		panic(fmt.Sprintf("airflowtest: company.json, which is built in, does not parse: %v", err))
	}
	return company
}

// User returns the account of that name and panics if the company has none:
// a test that asks for it is wrong.
func (c CompanyData) User(username string) CompanyUser {
	for _, user := range c.Users {
		if user.Username == username {
			return user
		}
	}
	panic(fmt.Sprintf("airflowtest: the company has no user %q", username))
}
