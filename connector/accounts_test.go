package connector

import (
	"context"
	"net/http"
	"slices"
	"strings"
	"testing"

	v2 "github.com/conductorone/baton-sdk/pb/c1/connector/v2"
	"github.com/conductorone/baton-sdk/pkg/crypto"
	"github.com/conductorone/baton-sdk/pkg/crypto/providers/jwk"
	"github.com/google/go-cmp/cmp"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/structpb"

	"airlock/airflow/airflowtest"
	"airlock/connector/config"
)

// random asks for a random password.
func random(length int64) *v2.CredentialOptions {
	return v2.CredentialOptions_builder{RandomPassword: v2.CredentialOptions_RandomPassword_builder{Length: length}.Build()}.Build()
}

// info is what a control plane sends of a new account.
func info(t *testing.T, login string, profile map[string]any) *v2.AccountInfo {
	t.Helper()
	s, err := structpb.NewStruct(profile)
	if err != nil {
		t.Fatal(err)
	}
	return v2.AccountInfo_builder{Login: login, Profile: s}.Build()
}

// create makes an account with a random password, and decrypts that.
func (r *rig) create(t *testing.T, info *v2.AccountInfo) (answer *v2.CreateAccountResponse, password string, err error) {
	t.Helper()
	cfg, key, err := new(jwk.JWKEncryptionProvider).GenerateKey(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	answer, err = r.CreateAccount(t.Context(), v2.CreateAccountRequest_builder{
		AccountInfo: info, CredentialOptions: random(20), EncryptionConfigs: []*v2.EncryptionConfig{cfg},
	}.Build())
	for _, data := range answer.GetEncryptedData() {
		plain, err := new(jwk.JWKEncryptionProvider).Decrypt(t.Context(), data, key)
		if err != nil {
			t.Fatal(err)
		}
		password = string(plain.GetBytes())
	}
	return answer, password, err
}

func TestCreateAccount(t *testing.T) {
	t.Parallel()
	for _, profile := range airflowtest.Profiles() {
		t.Run(profile.Airflow, func(t *testing.T) {
			t.Parallel()
			srv := withCompany(t, airflowtest.Options{Profile: profile})
			r := newRig(t, srv)
			answer, password, err := r.create(t, info(t, "greta", map[string]any{
				"email": "greta@example.com", "first_name": "Greta", "last_name": "Olsen", "roles": []any{"Op", "Viewer", "Op"},
			}))
			if err != nil {
				t.Fatal(err)
			}
			made := answer.GetSuccess().GetResource()
			if !answer.GetSuccess().GetIsCreateAccountResult() || made.GetId().GetResource() != "greta" || made.GetProfile().AsMap()["email"] != "greta@example.com" {
				t.Errorf("it answers %v", answer)
			}
			got, _ := srv.User("greta")
			if len(password) != 20 || got.Password != password {
				t.Errorf("the password handed back is %q, and Airflow's is %q", password, got.Password)
			}
			slices.Sort(got.Roles)
			want := airflowtest.User{
				Username: "greta", Email: "greta@example.com", FirstName: "Greta", LastName: "Olsen", Roles: []string{"Op", "Viewer"}, Active: true,
				Password: password, Created: got.Created,
			}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("in Airflow (-want +got):\n%s", diff)
			}

			// There already, by whatever spelling: told, and left as it is.
			for _, name := range []string{"greta", "GRETA"} {
				answer, password, err := r.create(t, info(t, name, map[string]any{"email": "another@example.com", "roles": "Admin"}))
				if err != nil || answer.GetAlreadyExists().GetResource().GetId().GetResource() != "greta" || password != "" {
					t.Errorf("a second %s: %v, %v, and a password: %v", name, answer, err, password != "")
				}
			}
			if again, _ := srv.User("greta"); cmp.Diff(got, again) != "" {
				t.Errorf("the second time changed it:\n%s", cmp.Diff(got, again))
			}
		})
	}
}

// What a form may say, and what comes of it.
func TestAccountsAskedFor(t *testing.T) {
	t.Parallel()
	srv := withCompany(t, airflowtest.Options{})
	r := newRig(t, srv)
	long := info(t, "greta", map[string]any{"email": "g@example.com"})
	long.SetEmails([]*v2.AccountInfo_Email{
		v2.AccountInfo_Email_builder{Address: "second@example.com"}.Build(),
		v2.AccountInfo_Email_builder{Address: "first@example.com", IsPrimary: true}.Build(),
	})
	for name, test := range map[string]struct {
		info *v2.AccountInfo
		want airflowtest.User
	}{
		"the least": {
			info(t, "greta", map[string]any{"email": "g@example.com"}),
			airflowtest.User{Username: "greta", Email: "g@example.com", FirstName: "greta", LastName: "-", Roles: []string{"Viewer"}},
		},
		"a display name": {
			info(t, "", map[string]any{"login": "greta", "email": " g@example.com ", "display_name": "Greta van Olsen", "first_name": nil, "last_name": "", "roles": nil}),
			airflowtest.User{Username: "greta", Email: "g@example.com", FirstName: "Greta", LastName: "van Olsen", Roles: []string{"Viewer"}},
		},
		"roles as a text": {
			info(t, "login", map[string]any{"username": "greta", "email": "g@example.com", "roles": "Op, Viewer,,Op"}),
			airflowtest.User{Username: "greta", Email: "g@example.com", FirstName: "greta", LastName: "-", Roles: []string{"Op", "Viewer"}},
		},
		"no roles": {
			info(t, "greta", map[string]any{"email": "g@example.com", "roles": []any{}}),
			airflowtest.User{Username: "greta", Email: "g@example.com", FirstName: "greta", LastName: "-", Roles: []string{"Viewer"}},
		},
		"the primary address": {
			long, airflowtest.User{Username: "greta", Email: "first@example.com", FirstName: "greta", LastName: "-", Roles: []string{"Viewer"}},
		},
	} {
		t.Run(name, func(t *testing.T) {
			_, password, err := r.create(t, test.info)
			if err != nil {
				t.Fatal(err)
			}
			got, _ := srv.User("greta")
			test.want.Password, test.want.Active, test.want.Created = password, true, got.Created
			if diff := cmp.Diff(test.want, got); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
			srv.DeleteUser("greta")
		})
	}
}

func TestAccountsThatAreNotMade(t *testing.T) {
	t.Parallel()
	srv := withCompany(t, airflowtest.Options{})
	for name, test := range map[string]struct {
		info    *v2.AccountInfo
		options *v2.CredentialOptions // a random password unless said
		code    codes.Code
		says    string
	}{
		"without a name":         {info: info(t, "", map[string]any{"email": "g@example.com"}), code: codes.InvalidArgument, says: "user name"},
		"without an address":     {info: info(t, "greta", nil), code: codes.InvalidArgument, says: "e-mail address"},
		"with another's address": {info: info(t, "greta", map[string]any{"email": "eve.castellano@example.com"}), code: codes.AlreadyExists, says: "eve.castellano@example.com"},
		"with a slash":           {info: info(t, "a/b", map[string]any{"email": "g@example.com"}), code: codes.InvalidArgument, says: "slash"},
		"with an unknown role":   {info: info(t, "greta", map[string]any{"email": "g@example.com", "roles": "Nothing"}), code: codes.InvalidArgument, says: "Nothing"},
		"a number as a name":     {info: info(t, "greta", map[string]any{"email": "g@example.com", "first_name": 7}), code: codes.InvalidArgument, says: "first_name"},
		"a list as an address":   {info: info(t, "greta", map[string]any{"email": []any{"g@example.com"}}), code: codes.InvalidArgument, says: "email"},
		"a number as a role":     {info: info(t, "greta", map[string]any{"email": "g@example.com", "roles": []any{"Op", 7}}), code: codes.InvalidArgument, says: "roles"},
		"a truth as roles":       {info: info(t, "greta", map[string]any{"email": "g@example.com", "roles": true}), code: codes.InvalidArgument, says: "roles"},
		"without a password": {
			info: info(t, "greta", map[string]any{"email": "g@example.com"}), code: codes.InvalidArgument, says: "needs a password",
			options: v2.CredentialOptions_builder{NoPassword: &v2.CredentialOptions_NoPassword{}}.Build(),
		},
		"with single sign-on": {
			info: info(t, "greta", map[string]any{"email": "g@example.com"}), code: codes.InvalidArgument, says: "needs a password",
			options: v2.CredentialOptions_builder{Sso: &v2.CredentialOptions_SSO{}}.Build(),
		},
		"with too short a password": {info: info(t, "greta", map[string]any{"email": "g@example.com"}), code: codes.InvalidArgument, says: "password length", options: random(3)},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			options := test.options
			if options == nil {
				options = random(16)
			}
			before := state(t, srv)
			_, err := newRig(t, srv).CreateAccount(t.Context(), v2.CreateAccountRequest_builder{AccountInfo: test.info, CredentialOptions: options}.Build())
			if status.Code(err) != test.code || !strings.Contains(err.Error(), test.says) {
				t.Errorf("%v, want %v that says %q", err, test.code, test.says)
			}
			if diff := cmp.Diff(before, state(t, srv)); diff != "" {
				t.Errorf("it changed something:\n%s", diff)
			}
		})
	}
	t.Run("without roles, and without a default", func(t *testing.T) {
		t.Parallel()
		r := newRig(t, srv, func(cfg *config.Airflow) { cfg.DefaultRole = "" })
		if _, _, err := r.create(t, info(t, "greta", map[string]any{"email": "g@example.com"})); status.Code(err) != codes.InvalidArgument || !strings.Contains(err.Error(), "role") {
			t.Errorf("%v", err)
		}
	})
}

// Somebody else makes the same account in the same moment.
func TestCreateAccountThatComesUpMeanwhile(t *testing.T) {
	t.Parallel()
	srv := withCompany(t, airflowtest.Options{})
	srv.Inject(airflowtest.Fault{Method: http.MethodPost, Path: "/auth/fab/v1/users", Act: before(func() {
		srv.PutUser(airflowtest.User{Username: "greta", Email: "g@example.com", Roles: []string{"Op"}, Active: true})
	})})
	answer, password, err := newRig(t, srv).create(t, info(t, "greta", map[string]any{"email": "g@example.com"}))
	if err != nil || answer.GetAlreadyExists().GetResource().GetId().GetResource() != "greta" || password != "" {
		t.Errorf("%v, %v", answer, err)
	}
}

// withClientSecret is a rig whose connector has a key to be sent passwords by.
func withClientSecret(t *testing.T, srv *airflowtest.Server) (*rig, func(password string) *v2.CredentialOptions) {
	t.Helper()
	cfg, key, err := new(jwk.JWKEncryptionProvider).GenerateKey(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	key.KeyID = cfg.GetKeyId()
	r := serve(context.WithValue(t.Context(), crypto.ContextClientSecretKey, key), t, srv, settings(srv))
	return r, func(password string) *v2.CredentialOptions {
		data, err := new(jwk.JWKEncryptionProvider).Encrypt(t.Context(), cfg, v2.PlaintextData_builder{Bytes: []byte(password)}.Build())
		if err != nil {
			t.Fatal(err)
		}
		return v2.CredentialOptions_builder{EncryptedPassword: v2.CredentialOptions_EncryptedPassword_builder{EncryptedPasswords: []*v2.EncryptedData{data}}.Build()}.Build()
	}
}

func TestGivenPassword(t *testing.T) {
	t.Parallel()
	srv := withCompany(t, airflowtest.Options{})
	r, given := withClientSecret(t, srv)
	answer, err := r.CreateAccount(t.Context(), v2.CreateAccountRequest_builder{
		AccountInfo: info(t, "greta", map[string]any{"email": "g@example.com"}), CredentialOptions: given("chosen by the test"),
	}.Build())
	if err != nil || len(answer.GetEncryptedData()) > 0 {
		t.Errorf("%v, %v", answer, err)
	}
	if u, _ := srv.User("greta"); u.Password != "chosen by the test" {
		t.Errorf("Airflow's is %q", u.Password)
	}
	rotate := func(password string) error {
		_, err := r.RotateCredential(t.Context(), v2.RotateCredentialRequest_builder{ResourceId: resourceOf("user", "greta").GetId(), CredentialOptions: given(password)}.Build())
		return err
	}
	if err := rotate("chosen anew"); err != nil {
		t.Error(err)
	}
	if u, _ := srv.User("greta"); u.Password != "chosen anew" {
		t.Errorf("Airflow's is %q", u.Password)
	}
	// Who gives a password isn't given it back.
	options := v2.LocalCredentialOptions_builder{PlaintextPassword: v2.LocalCredentialOptions_PlaintextPassword_builder{PlaintextPassword: "chosen"}.Build()}.Build()
	if password, back, err := newPassword(t.Context(), options); password != "chosen" || back != nil || err != nil {
		t.Errorf("%q, %v, %v", password, back, err)
	}
	if err := rotate(""); status.Code(err) != codes.InvalidArgument {
		t.Errorf("an empty password: %v", err)
	}
}

func TestRotate(t *testing.T) {
	t.Parallel()
	for _, profile := range airflowtest.Profiles() {
		t.Run(profile.Airflow, func(t *testing.T) {
			t.Parallel()
			srv := withCompany(t, airflowtest.Options{Profile: profile})
			r := newRig(t, srv)
			cfg, key, err := new(jwk.JWKEncryptionProvider).GenerateKey(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			before, _ := srv.User("eve")
			answer, err := r.RotateCredential(t.Context(), v2.RotateCredentialRequest_builder{
				ResourceId: resourceOf("user", "eve").GetId(), CredentialOptions: random(32), EncryptionConfigs: []*v2.EncryptionConfig{cfg},
			}.Build())
			if err != nil || len(answer.GetEncryptedData()) != 1 {
				t.Fatalf("%v, %v", answer, err)
			}
			plain, err := new(jwk.JWKEncryptionProvider).Decrypt(t.Context(), answer.GetEncryptedData()[0], key)
			if err != nil {
				t.Fatal(err)
			}
			after, _ := srv.User("eve")
			before.Password = string(plain.GetBytes())
			if diff := cmp.Diff(before, after); diff != "" || len(before.Password) != 32 {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

func TestDeleteAccount(t *testing.T) {
	t.Parallel()
	for _, profile := range airflowtest.Profiles() {
		t.Run(profile.Airflow, func(t *testing.T) {
			t.Parallel()
			srv := withCompany(t, airflowtest.Options{Profile: profile})
			r := newRig(t, srv)
			remove := func(username string) {
				t.Helper()
				if _, err := r.DeleteResource(t.Context(), v2.DeleteResourceRequest_builder{ResourceId: resourceOf("user", username).GetId()}.Build()); err != nil {
					t.Errorf("%s: %v", username, err)
				}
			}
			remove("EVE") // isn't there by that spelling
			if _, there := srv.User("eve"); !there {
				t.Fatal("eve went for EVE")
			}
			remove("eve")
			if _, there := srv.User("eve"); there {
				t.Error("eve is still there")
			}
			remove("eve")
			remove("kofi.mensah") // an admin, and there are others
			if _, there := srv.User("kofi.mensah"); there {
				t.Error("kofi.mensah is still there")
			}
		})
	}
}

func TestAccountForm(t *testing.T) {
	t.Parallel()
	r := newRig(t, withCompany(t, airflowtest.Options{}), func(cfg *config.Airflow) { cfg.DefaultRole = "Op" })
	answer, err := r.GetMetadata(t.Context(), &v2.ConnectorServiceGetMetadataRequest{})
	if err != nil {
		t.Fatal(err)
	}
	required := map[string]bool{}
	for key, f := range answer.GetMetadata().GetAccountCreationSchema().GetFieldMap() {
		required[key] = f.GetRequired()
	}
	want := map[string]bool{"username": true, "email": true, "first_name": false, "last_name": false, "roles": false}
	if diff := cmp.Diff(want, required); diff != "" {
		t.Errorf("which fields are required (-want +got):\n%s", diff)
	}
	if d := answer.GetMetadata().GetAccountCreationSchema().GetFieldMap()["roles"].GetDescription(); !strings.Contains(d, "Op") {
		t.Errorf("the form doesn't tell the default role: %q", d)
	}
}
