// Package airflow is a client of the part of Apache Airflow's REST API that
// says who may do what: users, roles, permissions, DAGs, the event log, and the
// versions of what answers. It speaks to Airflow 2.10 and later, 3.x included,
// with the FAB auth manager (FAB provider 1.5 and later).
//
// What it calls, below the base URL, and the permission (action, resource) that
// the account needs for it. N is 2 on Airflow 3 and 1 on Airflow 2.
//
//	GET    /api/v2/version, /api/v1/version   none
//	GET    /auth/openapi.json                 none           Airflow 3
//	POST   /auth/token                        none           Airflow 3
//	GET    /ui/auth/me                        none           Airflow 3, not all: whose token it is
//	GET, POST /login/                         none           Airflow 2: only to tell why basic is refused
//	GET    /api/vN/providers                  can_read       Providers, to tell FAB's version
//	GET    /auth/fab/v1/users[/{username}]    can_read       Users
//	POST   /auth/fab/v1/users                 can_create     Users
//	PATCH  /auth/fab/v1/users/{username}      can_edit       Users
//	DELETE /auth/fab/v1/users/{username}      can_delete     Users
//	GET    /auth/fab/v1/roles[/{name}]        can_read       Roles
//	POST   /auth/fab/v1/roles                 can_create     Roles
//	DELETE /auth/fab/v1/roles/{name}          can_delete     Roles
//	GET    /auth/fab/v1/permissions           can_read       Permissions; from FAB 3.3 on Roles
//	GET    /api/vN/dags                       can_read       DAGs
//	GET    /api/vN/eventLogs                  can_read       Audit Logs; from Airflow 3.1 on DAGs too
//
// Documentation of these: the "Airflow REST API" and "Flask AppBuilder auth
// manager API" references on airflow.apache.org, by version. Where running
// installations differ from their documentation, the code says how.
//
// Lists are read by [Cursor], each page overlapping the one before, so that a
// list which moves under the reading is noticed. Nothing here ever turns an
// error into an empty or a shorter list.
package airflow
