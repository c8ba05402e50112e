// Package airflowtest is an Apache Airflow in memory: what [net/http/httptest]
// is to http. It answers the same HTTP API as a real Airflow with the FAB auth
// manager, release by release, with the bugs each release has, as they were
// measured on running installations.
//
//	srv := airflowtest.Start(t, airflowtest.Options{Profile: airflowtest.For("3.1.6")})
//	srv.Load(airflowtest.Company())
//	srv.Generate(airflowtest.Scale{Users: 10_000, Roles: 50, DAGs: 200})
//
//	srv.Inject(airflowtest.Fault{Path: "/auth/fab/v1/users", Skip: 1, Act: airflowtest.Status(503)})
//	// … point a client at srv.URL with admin/admin …
//
//	got := srv.Roles("eve")                        // the truth, without HTTP
//	n := srv.Count("GET /auth/fab/v1/users")       // what was asked
//
// A new server holds the built-in roles Admin, Op, User, Viewer and Public with
// the permissions they have in that release, and the user admin with the
// password admin.
//
// Nothing here sleeps. Time is [Options.Now]; whatever waits, waits for a signal
// (see [Hold]).
package airflowtest
