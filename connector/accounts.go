package connector

import (
	"cmp"
	"context"
	"slices"
	"strings"

	v2 "github.com/conductorone/baton-sdk/pb/c1/connector/v2"
	"github.com/conductorone/baton-sdk/pkg/annotations"
	"github.com/conductorone/baton-sdk/pkg/connectorbuilder"
	"github.com/conductorone/baton-sdk/pkg/crypto"
	"github.com/grpc-ecosystem/go-grpc-middleware/logging/zap/ctxzap"
	"go.uber.org/zap"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/structpb"

	"airlock/airflow"
)

// accountSchema is the form for a new account.
func accountSchema(defaultRole string) *v2.ConnectorAccountCreationSchema {
	text := func(order int32, name, placeholder, description string, required bool) *v2.ConnectorAccountCreationSchema_Field {
		return v2.ConnectorAccountCreationSchema_Field_builder{
			DisplayName: name, Order: order, Placeholder: placeholder, Description: description, Required: required,
			StringField: &v2.ConnectorAccountCreationSchema_StringField{},
		}.Build()
	}
	none := "the default role"
	if defaultRole != "" {
		none = defaultRole
	}
	return v2.ConnectorAccountCreationSchema_builder{FieldMap: map[string]*v2.ConnectorAccountCreationSchema_Field{
		"username":   text(1, "Username", "eve", "The name to sign in with", true),
		"email":      text(2, "Email", "eve@example.com", "Each account has an address of its own", true),
		"first_name": text(3, "First name", "Eve", "", false),
		"last_name":  text(4, "Last name", "Castellano", "", false),
		"roles": v2.ConnectorAccountCreationSchema_Field_builder{
			DisplayName: "Roles", Order: 5, Placeholder: "Viewer", Description: "Roles to begin with; none is " + none,
			StringListField: &v2.ConnectorAccountCreationSchema_StringListField{},
		}.Build(),
	}}.Build()
}

// passwords are the ways in which a new password may come.
var passwords = []v2.CapabilityDetailCredentialOption{
	v2.CapabilityDetailCredentialOption_CAPABILITY_DETAIL_CREDENTIAL_OPTION_RANDOM_PASSWORD,
	v2.CapabilityDetailCredentialOption_CAPABILITY_DETAIL_CREDENTIAL_OPTION_ENCRYPTED_PASSWORD,
}

// CreateAccountCapabilityDetails says that a new account gets a random password or a given one.
func (user) CreateAccountCapabilityDetails(context.Context) (*v2.CredentialDetailsAccountProvisioning, annotations.Annotations, error) {
	return v2.CredentialDetailsAccountProvisioning_builder{
		SupportedCredentialOptions: passwords,
		PreferredCredentialOption:  passwords[0],
	}.Build(), nil, nil
}

// RotateCapabilityDetails says the same of a password's replacement.
func (user) RotateCapabilityDetails(context.Context) (*v2.CredentialDetailsCredentialRotation, annotations.Annotations, error) {
	return v2.CredentialDetailsCredentialRotation_builder{
		SupportedCredentialOptions: passwords,
		PreferredCredentialOption:  passwords[0],
	}.Build(), nil, nil
}

// CreateAccount makes an account and reads it back. One that is there already is
// reported as it is, and stays so.
func (u user) CreateAccount(ctx context.Context, info *v2.AccountInfo, options *v2.LocalCredentialOptions) (
	connectorbuilder.CreateAccountResponse, []*v2.PlaintextData, annotations.Annotations, error,
) {
	want, err := u.wanted(info)
	if err != nil {
		return nil, nil, nil, err
	}
	if err := airflow.CheckName("user", want.Username); err != nil {
		return nil, nil, nil, grpcError(err)
	}
	// Looked for first: a password isn't made in vain, and Airflow's versions
	// differ in what they check first.
	there, err := u.airflow.User(ctx, want.Username)
	if err == nil {
		return u.alreadyThere(ctx, there)
	}
	if !airflow.Is(err, airflow.NotFound) {
		return nil, nil, nil, grpcError(err)
	}
	password, plaintext, err := newPassword(ctx, options)
	if err != nil {
		return nil, nil, nil, err
	}
	made, err := u.airflow.CreateUser(ctx, want, password)
	if airflow.Is(err, airflow.Conflict) {
		if there, again := u.airflow.User(ctx, want.Username); again == nil {
			return u.alreadyThere(ctx, there)
		}
	}
	if err != nil {
		return nil, nil, nil, grpcError(err)
	}
	r, err := u.account(made)
	if err != nil {
		return nil, nil, nil, grpcError(err)
	}
	return v2.CreateAccountResponse_SuccessResult_builder{Resource: r, IsCreateAccountResult: true}.Build(), plaintext, nil, nil
}

func (u user) alreadyThere(ctx context.Context, there airflow.User) (connectorbuilder.CreateAccountResponse, []*v2.PlaintextData, annotations.Annotations, error) {
	ctxzap.Extract(ctx).Info("the account is there already and was left as it is", zap.String("username", there.Username))
	r, err := u.account(there)
	if err != nil {
		return nil, nil, nil, grpcError(err)
	}
	return v2.CreateAccountResponse_AlreadyExistsResult_builder{Resource: r, IsCreateAccountResult: true}.Build(), nil, nil, nil
}

// wanted reads the account to make from the form, and from what a control plane
// sends beside it. Airflow wants every name filled: missing ones are taken from
// the display name, or else from the username.
func (c *Connector) wanted(info *v2.AccountInfo) (airflow.User, error) {
	text := map[string]string{}
	for _, key := range []string{"username", "login", "email", "first_name", "last_name", "display_name"} {
		switch v := info.GetProfile().GetFields()[key].GetKind().(type) {
		case nil, *structpb.Value_NullValue:
		case *structpb.Value_StringValue:
			text[key] = strings.TrimSpace(v.StringValue)
		default:
			return airflow.User{}, status.Errorf(codes.InvalidArgument, "baton-airflow: the field %s of a new account must be a text: nothing was created", key)
		}
	}
	roles, err := texts("roles", info.GetProfile())
	if err != nil {
		return airflow.User{}, err
	}
	if len(roles) == 0 && c.defaultRole != "" {
		roles = []string{c.defaultRole}
	}
	email := text["email"]
	for _, e := range info.GetEmails() {
		if e.GetIsPrimary() || email == "" {
			email = e.GetAddress()
		}
	}
	username := cmp.Or(text["username"], info.GetLogin(), text["login"])
	given, family, _ := strings.Cut(text["display_name"], " ")
	return airflow.User{
		Username: username, Email: email, Roles: roles,
		FirstName: cmp.Or(text["first_name"], given, username), LastName: cmp.Or(text["last_name"], family, "-"),
	}, nil
}

// texts reads a field that is a list of texts, or one text with commas between
// them. Each one is there once.
func texts(key string, profile *structpb.Struct) ([]string, error) {
	var all []string
	wrong := false
	switch v := profile.GetFields()[key].GetKind().(type) {
	case nil, *structpb.Value_NullValue:
	case *structpb.Value_StringValue:
		all = strings.Split(v.StringValue, ",")
	case *structpb.Value_ListValue:
		for _, one := range v.ListValue.GetValues() {
			_, isText := one.GetKind().(*structpb.Value_StringValue)
			wrong = wrong || !isText
			all = append(all, one.GetStringValue())
		}
	default:
		wrong = true
	}
	if wrong {
		return nil, status.Errorf(codes.InvalidArgument, "baton-airflow: the field %s must be a list of texts, or one text with commas: nothing was created", key)
	}
	var out []string
	for _, one := range all {
		if one = strings.TrimSpace(one); one != "" && !slices.Contains(out, one) {
			out = append(out, one)
		}
	}
	return out, nil
}

// newPassword is the given password, or a random one to hand back. The SDK
// encrypts what is handed back.
func newPassword(ctx context.Context, options *v2.LocalCredentialOptions) (string, []*v2.PlaintextData, error) {
	if !options.HasRandomPassword() && !options.HasPlaintextPassword() {
		return "", nil, status.Error(codes.InvalidArgument,
			"baton-airflow: an account of Airflow's needs a password, random or given: ask for one of these (nothing was changed)")
	}
	password, err := crypto.GeneratePassword(ctx, options)
	if err != nil {
		return "", nil, status.Errorf(codes.InvalidArgument, "baton-airflow: make a password: %v (nothing was changed)", err)
	}
	if options.HasPlaintextPassword() {
		return password, nil, nil
	}
	return password, []*v2.PlaintextData{v2.PlaintextData_builder{
		Name: "password", Description: "Password to sign in to Airflow with", Bytes: []byte(password),
	}.Build()}, nil
}

// Rotate gives an account another password.
func (u user) Rotate(ctx context.Context, id *v2.ResourceId, options *v2.LocalCredentialOptions) ([]*v2.PlaintextData, annotations.Annotations, error) {
	there, err := u.exactly(ctx, id.GetResource())
	if err != nil {
		return nil, nil, grpcError(err)
	}
	self, err := u.isSelf(ctx, there)
	if err != nil {
		return nil, nil, grpcError(err)
	}
	if self {
		return nil, nil, refused(there.Username + " is the connector's own account, which couldn't sign in with the new password: change it in Airflow and in the connector's settings")
	}
	password, plaintext, err := newPassword(ctx, options)
	if err != nil {
		return nil, nil, err
	}
	if err := u.airflow.SetPassword(ctx, id.GetResource(), password); err != nil {
		return nil, nil, grpcError(err)
	}
	return plaintext, nil, nil
}

// Delete removes an account for good. One that is gone is success.
func (u user) Delete(ctx context.Context, id, _ *v2.ResourceId) (annotations.Annotations, error) {
	username := id.GetResource()
	u.guarded.Lock()
	defer u.guarded.Unlock()
	there, err := u.exactly(ctx, username)
	if airflow.Is(err, airflow.NotFound) {
		return nil, nil
	}
	if err != nil {
		return nil, grpcError(err)
	}
	if err := u.guard(ctx, there, nil); err != nil {
		return nil, grpcError(err)
	}
	if err := u.airflow.DeleteUser(ctx, username); err != nil && !airflow.Is(err, airflow.NotFound) {
		return nil, grpcError(err)
	}
	return nil, nil
}
