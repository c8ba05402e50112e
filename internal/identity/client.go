package identity

import (
	"crypto/ed25519"
	"crypto/rand"
	"encoding/base64"
	"fmt"
	"math/big"
	"net"
	"strings"
	"time"

	"github.com/go-jose/go-jose/v4"

	"airlock/internal/base/fault"
)

// The kinds of client. A hosted client is a connector too: a child of ours, with
// a key that lives as long as its process.
const (
	ClientConnector = "connector"
	ClientHosted    = "hosted"
)

// Client is what has an id and a secret for the token endpoint.
type Client struct {
	ID         string // slug@host[:port]/ccc
	Kind       string // connector or hosted
	SubjectID  string // the connector
	CreatedAt  time.Time
	LastUsedAt time.Time // when it last got a token
	RevokedAt  time.Time

	publicKey ed25519.PublicKey
}

// secretPrefix is how Baton connectors know a secret of the first form. They
// look at the v1 alone; the rest is what the secrets of the field begin with, so
// that scanners for leaked ones find ours.
const secretPrefix = "secret-token:conductorone.com:v1:"

// newClient makes a client with a fresh key. The secret, which has the private half, is
// the only copy of it.
func newClient(kind, subjectID, host string, now time.Time) (c Client, secret string, err error) {
	if err := checkHost(host); err != nil {
		return Client{}, "", err
	}
	public, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return Client{}, "", fmt.Errorf("make the key of a client: %w", err)
	}
	jwk, err := jose.JSONWebKey{Key: private}.MarshalJSON()
	if err != nil {
		return Client{}, "", fmt.Errorf("write the key of a client: %w", err)
	}
	c = Client{ID: slug() + "@" + host + "/ccc", Kind: kind, SubjectID: subjectID, CreatedAt: now, publicKey: public}
	return c, secretPrefix + base64.RawURLEncoding.EncodeToString(jwk), nil
}

// checkHost refuses what a connector couldn't take out of its id again.
func checkHost(host string) error {
	name, port, err := net.SplitHostPort(host)
	if err != nil {
		name, port = strings.Trim(host, "[]"), "443"
	}
	if name == "" || port == "" || len(host) > 255 || strings.ContainsAny(host, "/@? \t\r\n") {
		return fault.New(fault.Invalid, "a client's id carries the public host, such as airlock.example.com or airlock.example.com:8443, and %q is none", host)
	}
	return nil
}

// audienceOf is what a connector says its assertion is for: the host of its own
// id, without the port. It does what the SDK does, with brackets and all.
func audienceOf(clientID string) string {
	_, rest, _ := strings.Cut(clientID, "@")
	host, _, _ := strings.Cut(rest, "/")
	if name, _, err := net.SplitHostPort(host); err == nil {
		return name
	}
	return host
}

// slug is a name for people to tell clients apart by: it needn't be hard to
// guess.
func slug() string {
	return fmt.Sprintf("%s-%s-%05d", adjectives[random(len(adjectives))], nouns[random(len(nouns))], random(100_000))
}

func random(below int) int {
	n, err := rand.Int(rand.Reader, big.NewInt(int64(below)))
	if err != nil {
		panic(err) // crypto/rand doesn't fail
	}
	return int(n.Int64())
}

var adjectives = strings.Fields(`
	amber ample azure bold brave brisk bright calm candid clear clever coastal cobalt copper coral cosmic crisp curious
	dapper daring eager early earnest emerald fabled fearless fleet gentle gilded golden graceful hardy hazel honest humble
	ivory jolly keen kind lively loyal lucid lunar mellow merry mild modest nimble noble olive patient placid polished prompt
	proud quick quiet radiant rapid robust rustic sage scarlet serene sharp silver sincere solar spry steady sunny swift
	tidal tidy tranquil trusty upbeat valiant velvet vivid warm watchful wise witty zesty`)

var nouns = strings.Fields(`
	acorn alder anchor arbor aspen badger beacon birch bison breeze brook canyon cedar cinder comet condor coral cove crane
	creek cypress delta dolphin dune eagle ember falcon fern finch fjord fox garnet glacier grove gull harbor hare hawk hazel
	heron hollow ibis inlet iris island jasper juniper kestrel lagoon lark laurel lemur linden lotus lynx maple marlin marsh
	meadow mesa moss oak ocelot opal orchid osprey otter owl pebble pelican pine plover plum prairie quail quartz raven reef
	ridge robin rowan sable salmon sparrow spruce summit swallow swan thicket thistle topaz trout tundra valley walnut willow
	wolf wren yarrow`)
