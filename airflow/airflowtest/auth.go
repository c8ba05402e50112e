package airflowtest

import (
	"crypto/hmac"
	"crypto/sha512"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"
)

// tokens is what the server remembers about the tokens it gave out. They are
// numbered from 1 on.
type tokens struct {
	issued, expired, revoked uint64 // the last number of each
	cache                    map[int]cached
}

// cached are the rights of a token's owner, as they were when looked up.
type cached struct {
	rights rights
	until  time.Time
}

type claims struct {
	Sub string `json:"sub"` // the user's id
	JTI string `json:"jti"` // the token's number
	Aud string `json:"aud"`
	NBF int64  `json:"nbf"`
	Exp int64  `json:"exp"`
	Iat int64  `json:"iat"`
}

// sign signs with a key that all servers share, as one does across restarts.
func sign(signed string) string {
	mac := hmac.New(sha512.New, []byte("sixty-four bytes with which each in-memory Airflow signs a token"))
	mac.Write([]byte(signed))
	return base64.RawURLEncoding.EncodeToString(mac.Sum(nil))
}

// issue makes a token for a user.
func (s *Server) issue(userID int, life time.Duration) string {
	s.tokens.issued++
	now := s.now()
	payload := encode(claims{
		Sub: strconv.Itoa(userID), JTI: fmt.Sprintf("%032x", s.tokens.issued), Aud: "apache-airflow",
		NBF: now.Unix(), Iat: now.Unix(), Exp: now.Add(life).Unix(),
	})
	header := []byte(`{"alg":"HS512","kid":"not-used","typ":"JWT"}`)
	signed := base64.RawURLEncoding.EncodeToString(header) + "." + base64.RawURLEncoding.EncodeToString(payload)
	return signed + "." + sign(signed)
}

// Token returns a token for the user as POST /auth/token would give it, without
// counting as a sign-in. It panics when there is no such user.
func (s *Server) Token(username string) string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.issue(s.mustFind(username).id, s.opts.TokenLife)
}

// ExpireTokens lets every token given out so far count as expired: 401.
func (s *Server) ExpireTokens() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.tokens.expired = s.tokens.issued
}

// RevokeTokens revokes every token given out so far: 403 `Invalid JWT token`.
func (s *Server) RevokeTokens() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.tokens.revoked = s.tokens.issued
}

var (
	notAuthenticated = answer{status: 401, body: detail("Not authenticated")}
	tokenExpired     = answer{status: 401, body: detail("Token Expired")}
	invalidToken     = answer{status: 403, body: detail("Invalid JWT token")}
	forbidden        = answer{status: 403, body: detail("Forbidden")}
	unhandled        = answer{status: 500, text: "Internal Server Error"} // the connection is closed after it
)

// detail is FastAPI's error.
func detail(d any) map[string]any { return map[string]any{"detail": d} }

// fastAPI checks in FastAPI's order: the syntax of the body, the token, the
// right, the query, the fields of the body.
func (s *Server) fastAPI(c *call) answer {
	problems, a := c.pydantic()
	if a.status != 0 || c.open {
		return a
	}
	if a := s.bearer(c); a.status != 0 {
		return a
	}
	if c.resource != "" && !c.rights.has(c.action, c.resource) {
		return forbidden
	}
	if problems = append(c.wrongQuery(), problems...); len(problems) > 0 {
		return answer{status: 422, body: detail(problems)}
	}
	return answer{}
}

// bearer finds the owner of the token.
func (s *Server) bearer(c *call) answer {
	scheme, token, _ := strings.Cut(c.r.Header.Get("Authorization"), " ")
	if !strings.EqualFold(scheme, "bearer") || token == "" {
		return notAuthenticated
	}
	parts := strings.Split(token, ".")
	if len(parts) != 3 || !hmac.Equal([]byte(sign(parts[0]+"."+parts[1])), []byte(parts[2])) {
		return invalidToken
	}
	var cl claims
	payload, err := base64.RawURLEncoding.DecodeString(parts[1])
	if err != nil || json.Unmarshal(payload, &cl) != nil {
		return invalidToken
	}
	number, _ := strconv.ParseUint(cl.JTI, 16, 64)
	const leeway = 10 // seconds, [api_auth] jwt_leeway
	switch {
	case s.now().Unix() > cl.Exp+leeway, number <= s.tokens.expired:
		return tokenExpired
	case number <= s.tokens.revoked:
		return invalidToken
	}
	c.userID, _ = strconv.Atoi(cl.Sub)
	return s.owner(c)
}

// owner loads what the owner of a token may do, from the cache while that holds.
func (s *Server) owner(c *call) answer {
	known, found := s.tokens.cache[c.userID]
	if !found || !s.now().Before(known.until) {
		u, found := s.store.byID(c.userID)
		switch {
		case !found && s.Profile.GoneStatus == 500:
			return unhandled
		case !found, !u.active && s.Profile.RefusesInactive:
			return invalidToken
		}
		known = cached{u.rights(), s.now().Add(s.opts.CacheTTL)}
		s.tokens.cache[c.userID] = known
	}
	c.rights, c.req.User = known.rights, known.rights.username
	return answer{}
}

// flask checks in the order of Flask's API: query and body against the
// specification, the password, the right, the rest of query and body.
func (s *Server) flask(c *call) answer {
	if a := s.connexion(c); a.status != 0 || c.open {
		return a
	}
	if a := s.basic(c); a.status != 0 {
		return a
	}
	if c.resource != "" && !c.rights.has(c.action, c.resource) {
		return s.problem(403, "PermissionDenied", "Forbidden", nil)
	}
	if strings.HasPrefix(c.r.URL.Query().Get("limit"), "-") {
		return s.problem(400, "BadRequest", "Page limit must be a positive integer", nil)
	}
	return s.marshmallow(c)
}

// basic signs the user in: each request with a password counts as a login.
func (s *Server) basic(c *call) answer {
	if username, password, given := c.r.BasicAuth(); given && !s.opts.BasicOff {
		if u, found := s.store.login(username, password, s.now()); found {
			c.userID, c.rights, c.req.User = u.id, u.rights(), u.username
			return answer{}
		}
	}
	if s.Profile.Anonymous == 403 {
		return s.problem(403, "PermissionDenied", "Forbidden", nil)
	}
	a := s.problem(401, "Unauthenticated", "Unauthorized", nil)
	if !s.opts.BasicOff && !s.Profile.V2() {
		a.header.Set("WWW-Authenticate", "Basic")
	}
	return a
}

// problem is Flask's error, RFC 7807. Without a kind it is the router's.
func (s *Server) problem(status int, kind, title string, detail any) answer {
	is := "about:blank"
	if kind != "" {
		is = "https://airflow.apache.org/docs/apache-airflow/" + s.Profile.Airflow + "/stable-rest-api-ref.html#section/Errors/" + kind
	}
	return answer{
		status: status, header: http.Header{"Content-Type": {"application/problem+json"}},
		body: map[string]any{"status": status, "title": title, "detail": detail, "type": is},
	}
}

// fail is an error of an endpoint, in the manner of the framework that serves it.
func (s *Server) fail(c *call, status int, title, text string) answer {
	if !c.flask {
		return answer{status: status, body: detail(text)}
	}
	return s.problem(status, map[int]string{400: "BadRequest", 404: "NotFound", 409: "AlreadyExists", 500: "Unknown"}[status], title, text)
}

// token answers POST /auth/token.
func (s *Server) token(c *call) answer {
	var given map[string]any
	if err := json.Unmarshal(c.raw, &given); err != nil {
		return answer{status: 422, body: detail([]any{wrong("json_invalid", "JSON decode error", struct{}{}, "body", 1)})}
	}
	for _, name := range []string{"username", "password"} {
		if _, there := given[name]; !there && s.Profile.TokenTyped {
			return answer{status: 422, body: detail([]any{wrong("missing", "Field required", given, "body", name)})}
		}
	}
	username, _ := given["username"].(string)
	password, _ := given["password"].(string)
	if username == "" || password == "" {
		return answer{status: 400, body: detail("Username and password must be provided")}
	}
	u, found := s.store.login(username, password, s.now())
	if !found {
		return answer{status: 401, body: detail("Invalid credentials")}
	}
	c.req.User = u.username
	life := s.opts.TokenLife
	if strings.HasSuffix(c.path, "/cli") {
		life = time.Hour
	}
	return answer{status: 201, body: map[string]string{"access_token": s.issue(u.id, life)}}
}

// me tells the owner of a token who they are.
func (s *Server) me(c *call) answer {
	return ok(map[string]string{"id": strconv.Itoa(c.userID), "username": c.rights.username})
}

// openapi lists what FastAPI serves below /auth: exactly what takes a token.
func (s *Server) openapi(*call) answer {
	title := "FAB auth manager API"
	if s.opts.Auth != FAB {
		title = string(s.opts.Auth) + " auth manager sub application"
	}
	paths := map[string]map[string]any{}
	for _, rt := range s.table {
		path, below := strings.CutPrefix(rt.path, "/auth")
		if !below || rt.flask || path == "/openapi.json" {
			continue
		}
		if paths[path] == nil {
			paths[path] = map[string]any{}
		}
		paths[path][strings.ToLower(rt.method)] = map[string]any{"responses": map[string]any{}}
	}
	info := map[string]string{"title": title, "description": "This is " + title + ".", "version": "0.1.0"}
	return ok(map[string]any{"openapi": "3.1.0", "info": info, "paths": paths})
}
