package airflowtest

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"
)

// schema is what a body may hold: fields of text, all required but in a patch,
// none empty but the password, and a list of objects.
type schema struct {
	text     []string
	list     string
	patch    bool
	readOnly []string // refused by Flask by name
}

var (
	userText        = []string{"first_name", "last_name", "username", "email", "password"}
	userReadOnly    = []string{"active", "changed_on", "created_on", "failed_login_count", "last_login", "login_count"}
	userSchema      = &schema{text: userText, list: "roles", readOnly: userReadOnly}
	userPatchSchema = &schema{text: userText, list: "roles", readOnly: userReadOnly, patch: true}
	roleSchema      = &schema{text: []string{"name"}, list: "actions"}
)

func (sc *schema) knows(name string) bool { return name == sc.list || slices.Contains(sc.text, name) }

// wrong is one item of FastAPI's 422.
func wrong(kind, msg string, input any, loc ...any) any {
	return map[string]any{"type": kind, "loc": loc, "msg": msg, "input": input}
}

// pydantic reads the body as FastAPI does. What is wrong with its syntax is
// answered at once, what is wrong with its fields is told after the right to
// call was checked.
func (c *call) pydantic() (problems []any, a answer) {
	if c.schema == nil {
		return nil, answer{}
	}
	if len(c.raw) == 0 {
		return []any{wrong("missing", "Field required", nil, "body")}, answer{}
	}
	var parsed any
	if err := json.Unmarshal(c.raw, &parsed); err != nil {
		return nil, answer{status: 422, body: detail([]any{wrong("json_invalid", "JSON decode error", struct{}{}, "body", 1)})}
	}
	const notAnObject = "Input should be a valid dictionary or object to extract fields from"
	body, isObject := parsed.(map[string]any)
	if !isObject {
		return []any{wrong("model_attributes_type", notAnObject, parsed, "body")}, answer{}
	}
	c.body = maps.Clone(body)
	if body[c.schema.list] == nil {
		delete(c.body, c.schema.list) // null is the same as absent
	}
	for _, name := range c.schema.text {
		value, given := body[name]
		text, isText := value.(string)
		switch {
		case value == nil && c.schema.patch:
			delete(c.body, name)
		case !given:
			problems = append(problems, wrong("missing", "Field required", body, "body", name))
		case !isText:
			problems = append(problems, wrong("string_type", "Input should be a valid string", value, "body", name))
		case text == "" && name != "password":
			problems = append(problems, wrong("string_too_short", "String should have at least 1 character", "", "body", name))
		}
	}
	items, _ := body[c.schema.list].([]any)
	for i, item := range items {
		if _, isObject := item.(map[string]any); !isObject {
			problems = append(problems, wrong("model_attributes_type", notAnObject, item, "body", c.schema.list, i))
		}
	}
	for _, name := range sortedKeys(body) {
		if !c.schema.knows(name) {
			problems = append(problems, wrong("extra_forbidden", "Extra inputs are not permitted", body[name], "body", name))
		}
	}
	return problems, answer{}
}

// wrongQuery checks the query as FastAPI does, which ignores what it doesn't know.
func (c *call) wrongQuery() (problems []any) {
	query := c.r.URL.Query()
	for name, values := range query {
		n, notInteger := strconv.Atoi(values[0])
		_, _, notTime := parseTime(values[0])
		switch {
		case (name == "limit" || name == "offset") && notInteger != nil:
			problems = append(problems, wrong("int_parsing", "Input should be a valid integer, unable to parse string as an integer", values[0], "query", name))
		case (name == "limit" || name == "offset") && n < 0:
			problems = append(problems, wrong("greater_than_equal", "Input should be greater than or equal to 0", values[0], "query", name))
		case (name == "before" || name == "after") && notTime != nil:
			problems = append(problems, wrong("datetime_from_date_parsing", "Input should be a valid datetime or date", values[0], "query", name))
		}
	}
	return problems
}

// connexion checks query and body against the specification, as Flask's API
// does before it asks who calls.
func (s *Server) connexion(c *call) answer {
	bad := func(format string, args ...any) answer {
		return s.problem(400, "BadRequest", "Bad Request", fmt.Sprintf(format, args...))
	}
	query := c.r.URL.Query()
	for _, name := range sortedKeys(query) {
		n, notInteger := strconv.Atoi(query.Get(name))
		_, zoned, _ := parseTime(query.Get(name))
		switch {
		case c.params != nil && !slices.Contains(c.params, name):
			return s.problem(400, "BadRequest", "", "Extra query parameter(s) "+name+" not in spec")
		case (name == "limit" || name == "offset") && notInteger != nil:
			return bad("Wrong type, expected 'integer' for query parameter '%s'", name)
		case name == "offset" && n < 0:
			return bad("%d is less than the minimum of 0", n)
		case (name == "before" || name == "after") && !zoned:
			return bad("'%s' is not a 'date-time'", query.Get(name))
		}
	}
	if c.schema == nil {
		return answer{}
	}
	var parsed any
	switch kind := c.r.Header.Get("Content-Type"); {
	case !strings.HasPrefix(kind, "application/json"):
		return s.problem(415, "", "Unsupported Media Type", "Invalid Content-type ("+kind+"), expected JSON data")
	case len(c.raw) == 0:
		return bad("Request body must not be empty")
	case json.Unmarshal(c.raw, &parsed) != nil:
		return bad("Request body is not valid JSON")
	}
	var isObject bool
	if c.body, isObject = parsed.(map[string]any); !isObject {
		return bad("%v is not of type 'object'", parsed)
	}
	for _, name := range sortedKeys(c.body) {
		text, isText := c.body[name].(string)
		items, isList := c.body[name].([]any)
		switch {
		case slices.Contains(c.schema.readOnly, name):
			return bad("Property is read-only - '%s'", name)
		case name == c.schema.list && (!isList || len(objects(items)) < len(items)):
			return bad("%v is not of type 'array' of objects - '%s'", c.body[name], name)
		case slices.Contains(c.schema.text, name) && !isText:
			return bad("%v is not of type 'string' - '%s'", c.body[name], name)
		case (name == "username" || name == "name") && text == "":
			return bad("'' should be non-empty - '%s'", name)
		}
	}
	return answer{}
}

// marshmallow checks the fields of the body as Flask's endpoints do, when they
// know who calls. Even a patch must name all columns that can't be null.
func (s *Server) marshmallow(c *call) answer {
	if c.schema == nil {
		return answer{}
	}
	var errors []string
	for _, name := range c.schema.text {
		if _, given := c.body[name]; !given && name != "password" {
			errors = append(errors, "'"+name+"': ['Missing data for required field.']")
		}
	}
	for _, name := range sortedKeys(c.body) {
		if !c.schema.knows(name) {
			errors = append(errors, "'"+name+"': ['Unknown field.']")
		}
	}
	if len(errors) == 0 {
		return answer{}
	}
	return s.problem(400, "BadRequest", "Bad Request", "{"+strings.Join(errors, ", ")+"}")
}

// mask splits update_mask; given tells whether there was one.
func (c *call) mask() (names []string, given bool) {
	query := c.r.URL.Query()
	for name := range strings.SplitSeq(query.Get("update_mask"), ",") {
		if name = strings.TrimSpace(name); name != "" || c.flask {
			names = append(names, name)
		}
	}
	return names, query.Has("update_mask")
}

// order is order_by: the column, and whether it is to be read backwards.
func (c *call) order(standard string) (column string, descending bool) {
	if query := c.r.URL.Query(); query.Has("order_by") {
		return strings.CutPrefix(query.Get("order_by"), "-")
	}
	return standard, false
}

// badOrder is the answer to an order_by that isn't possible.
func (s *Server) badOrder(c *call) answer {
	return s.fail(c, 400, "Bad Request", "Ordering with '"+c.r.URL.Query().Get("order_by")+"' is disallowed or the attribute does not exist on the model")
}

// page is how much of a list of n items limit and offset ask for. FAB's lists
// have a default of their own, Airflow 3's other lists take a limit of 0 at its
// word, and too high a limit is cut in silence.
func (s *Server) page(c *call, n int) (from, to int) {
	fallback := 50 // [api] fallback_page_limit
	if s.Profile.V2() {
		fallback = 100
	}
	fab := strings.HasPrefix(c.path, "/auth/fab/")
	query := c.r.URL.Query()
	limit, err := strconv.Atoi(query.Get("limit"))
	switch {
	case s.Profile.V2() && strings.HasSuffix(c.path, "/providers"):
		limit = n // it knows no pages
	case err != nil && fab:
		limit = 100
	case err != nil, limit == 0 && (fab || s.Profile.V2()):
		limit = fallback
	}
	offset, _ := strconv.Atoi(query.Get("offset"))
	from = min(offset, n)
	return from, min(from+min(limit, s.opts.PageLimit), n)
}

// paged answers with the page that was asked for.
func paged[T, J any](s *Server, c *call, name string, items []T, toJSON func(T) J) answer {
	from, to := s.page(c, len(items))
	page := make([]J, 0, to-from)
	for _, item := range items[from:to] {
		page = append(page, toJSON(item))
	}
	return ok(map[string]any{name: page, "total_entries": len(items)})
}

// parseTime reads a time of a query; zoned tells whether it has an offset.
func parseTime(text string) (at time.Time, zoned bool, err error) {
	if at, err = time.Parse(time.RFC3339Nano, text); err == nil {
		return at, true, nil
	}
	at, err = time.Parse("2006-01-02T15:04:05", text)
	return at, false, err
}

// quoted is a list of names as in "Unknown roles: 'a', 'b'".
func quoted(names []string) string { return "'" + strings.Join(names, "', '") + "'" }

// objects are the objects of a JSON list.
func objects(list any) (out []map[string]any) {
	items, _ := list.([]any)
	for _, item := range items {
		if object, isObject := item.(map[string]any); isObject {
			out = append(out, object)
		}
	}
	return out
}

// nameOf is the name in {"name": …}.
func nameOf(object any) string {
	fields, _ := object.(map[string]any)
	name, _ := fields["name"].(string)
	return name
}

func sortedKeys[V any](m map[string]V) []string { return slices.Sorted(maps.Keys(m)) }
