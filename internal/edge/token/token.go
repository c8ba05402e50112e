// Package token is the one token endpoint: a client shows an assertion that it
// signed and gets a short token (RFC 6749 §4.4 with RFC 7523 §2.2).
package token

import (
	"encoding/json"
	"errors"
	"log/slog"
	"mime"
	"net/http"
	"strconv"
	"time"

	"airlock/internal/base/fault"
	"airlock/internal/identity"
)

// Path is where connectors look for the endpoint.
const Path = "/auth/v1/token"

// maxForm is the most that a request may have, in bytes; a connector's has less
// than one thousand.
const maxForm = 32 << 10

// retryAfter is when a client that was turned away for no fault of its own may
// come again. A connector that starts ends at any answer but 200, and its
// supervisor starts it again.
const retryAfter = 5 * time.Second

// Handler answers POST requests for a token.
func Handler(people *identity.Service, log *slog.Logger) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Cache-Control", "no-store")
		w.Header().Set("Pragma", "no-cache")
		if r.Method != http.MethodPost {
			w.Header().Set("Allow", http.MethodPost)
			refuse(w, http.StatusMethodNotAllowed, "invalid_request", "a token is asked for with POST")
			return
		}
		form, status, words := read(w, r)
		if words != "" {
			refuse(w, status, "invalid_request", words)
			return
		}
		token, err := people.Exchange(r.Context(), form)
		if err != nil {
			answerError(w, r, log, form.ClientID, err)
			return
		}
		answer(w, http.StatusOK, map[string]any{
			"access_token": token.Access,
			"token_type":   "Bearer",
			"expires_in":   int(token.ExpiresIn / time.Second),
		})
	})
}

// read takes a request's form apart. If it can't, it says with which status and
// why.
func read(w http.ResponseWriter, r *http.Request) (form identity.TokenRequest, status int, words string) {
	if kind, _, err := mime.ParseMediaType(r.Header.Get("Content-Type")); err != nil || kind != "application/x-www-form-urlencoded" {
		return form, http.StatusUnsupportedMediaType, "the request must be application/x-www-form-urlencoded"
	}
	r.Body = http.MaxBytesReader(w, r.Body, maxForm)
	if err := r.ParseForm(); err != nil {
		if _, ok := errors.AsType[*http.MaxBytesError](err); ok {
			return form, http.StatusRequestEntityTooLarge, "the request is too large"
		}
		return form, http.StatusBadRequest, "the form can't be read"
	}
	for _, values := range r.PostForm {
		if len(values) > 1 {
			return form, http.StatusBadRequest, "a field is there more than once"
		}
	}
	return identity.TokenRequest{
		ClientID:      r.PostForm.Get("client_id"),
		GrantType:     r.PostForm.Get("grant_type"),
		AssertionType: r.PostForm.Get("client_assertion_type"),
		Assertion:     r.PostForm.Get("client_assertion"),
	}, http.StatusOK, ""
}

// answerError says in the words of RFC 6749 §5.2 that there is no token. Why a
// client wasn't believed is for the log alone; trouble inside is never told as a
// refusal.
func answerError(w http.ResponseWriter, r *http.Request, log *slog.Logger, clientID string, err error) {
	known, _ := errors.AsType[*fault.Error](err)
	switch fault.CodeOf(err) {
	case fault.Unauthenticated:
		log.WarnContext(r.Context(), "no token was given", "client", clientID, "from", r.RemoteAddr, "reason", errors.Unwrap(known))
		refuse(w, http.StatusUnauthorized, "invalid_client", "the client couldn't be authenticated")
	case fault.Invalid:
		code := "invalid_request"
		if known.Field == "grant_type" && r.PostForm.Get("grant_type") != "" {
			code = "unsupported_grant_type"
		}
		refuse(w, http.StatusBadRequest, code, known.Message)
	case fault.Exhausted:
		log.WarnContext(r.Context(), "no token was given", "client", clientID, "from", r.RemoteAddr, "reason", err)
		w.Header().Set("Retry-After", strconv.Itoa(int(time.Minute/time.Second)))
		refuse(w, http.StatusTooManyRequests, "slow_down", known.Message)
	default:
		log.ErrorContext(r.Context(), "no token could be given", "client", clientID, "error", err)
		w.Header().Set("Retry-After", strconv.Itoa(int(retryAfter/time.Second)))
		refuse(w, http.StatusServiceUnavailable, "temporarily_unavailable", "no token can be given now; ask again")
	}
}

func refuse(w http.ResponseWriter, status int, code, words string) {
	answer(w, status, map[string]any{"error": code, "error_description": words})
}

func answer(w http.ResponseWriter, status int, body map[string]any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(body) // the client went away
}
