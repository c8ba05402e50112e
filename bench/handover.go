package main

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/x509"
	"encoding/base64"
	"errors"
	"fmt"
	"log/slog"
	"net/http/httptest"
	"path/filepath"
	"slices"
	"strings"
	"time"

	v2 "github.com/conductorone/baton-sdk/pb/c1/connector/v2"
	batonv1 "github.com/conductorone/baton-sdk/pb/c1/connectorapi/baton/v1"
	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/jwt"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/metadata"

	"airlock/internal/base/db"
	"airlock/internal/edge/baton"
	"airlock/internal/identity"
	"airlock/internal/integration"
)

// publicHost is what Client IDs carry here.
const publicHost = "airlock.example"

// handOver is the process that measures how soon a task reaches a connector that
// waits for one, over TLS, from the commit of the task on. The others wait too.
type handOver struct {
	Where      string
	Dir        string
	Connectors int
	Tasks      int
}

// handedOver is how long that took: half of the tasks, and 99 of 100, no longer.
type handedOver struct{ P50, P99 time.Duration }

func (h handOver) run(ctx context.Context) (_ handedOver, err error) {
	m, err := openDomain(ctx, h.Where, h.Dir, func(time.Duration) {})
	if err != nil {
		return handedOver{}, err
	}
	defer func() { err = errors.Join(err, m.close(context.WithoutCancel(ctx))) }()
	door := baton.New(baton.Config{DB: m.db, Integration: m.integration, Identity: m.identity, Log: slog.New(slog.DiscardHandler), TempDir: filepath.Join(h.Dir, "uploads")})
	site := httptest.NewUnstartedServer(door.Handler())
	site.EnableHTTP2 = true
	site.StartTLS()
	defer site.Close()
	defer door.Stop()

	ctx, stop := context.WithCancel(ctx)
	defer stop()
	arrived := make(chan arrival)
	var connectors []string
	var conns []*grpc.ClientConn
	defer func() {
		for _, conn := range conns {
			err = errors.Join(err, conn.Close())
		}
	}()
	for n := range h.Connectors {
		c, credentials, err := m.integration.Add(ctx, identity.Operator(), integration.AddConnector{Catalog: "bank", App: fmt.Sprintf("Bank %d", n)})
		if err != nil {
			return handedOver{}, err
		}
		conn, err := dial(site)
		if err != nil {
			return handedOver{}, err
		}
		conns = append(conns, conn)
		token, err := exchange(ctx, m.identity, credentials)
		if err != nil {
			return handedOver{}, err
		}
		w := waiting{batonv1.NewBatonServiceClient(conn), fmt.Sprintf("host-%d", n), arrived}
		if err := w.begin(metadata.AppendToOutgoingContext(ctx, "authorization", "Bearer "+token)); err != nil {
			return handedOver{}, err
		}
		connectors = append(connectors, c.ID)
	}
	var took []time.Duration
	for n := range h.Tasks {
		for door.Holding() < int64(h.Connectors) {
			select {
			case <-time.After(100 * time.Microsecond):
			case <-ctx.Done():
				return handedOver{}, ctx.Err()
			}
		}
		var committed time.Time
		err := m.db.Write(ctx, func(ctx context.Context, tx *db.Tx) error {
			tx.AfterCommit(func() { committed = time.Now() })
			_, err := m.integration.AddTask(ctx, tx, identity.Operator(), integration.TaskSpec{ConnectorID: connectors[n%len(connectors)], Request: integration.Grant{}})
			return err
		})
		if err != nil {
			return handedOver{}, err
		}
		select {
		case one := <-arrived:
			if one.err != nil {
				return handedOver{}, one.err
			}
			took = append(took, one.at.Sub(committed))
		case <-ctx.Done():
			return handedOver{}, ctx.Err()
		}
	}
	slices.Sort(took)
	return handedOver{took[len(took)/2], took[len(took)*99/100]}, nil
}

func dial(site *httptest.Server) (*grpc.ClientConn, error) {
	roots := x509.NewCertPool()
	roots.AddCert(site.Certificate())
	return grpc.NewClient(strings.TrimPrefix(site.URL, "https://"), grpc.WithTransportCredentials(credentials.NewClientTLSFromCert(roots, "")))
}

// exchange gets a token as connectors do.
func exchange(ctx context.Context, people *identity.Service, c integration.Credentials) (string, error) {
	secret := c.ClientSecret[strings.LastIndexByte(c.ClientSecret, ':')+1:]
	text, err := base64.RawURLEncoding.DecodeString(secret)
	if err != nil {
		return "", err
	}
	var key jose.JSONWebKey
	if err := key.UnmarshalJSON(text); err != nil {
		return "", err
	}
	private, ok := key.Key.(ed25519.PrivateKey)
	if !ok {
		return "", fmt.Errorf("the key of a client is a %T", key.Key)
	}
	signer, err := jose.NewSigner(jose.SigningKey{Algorithm: jose.EdDSA, Key: private}, (&jose.SignerOptions{}).WithHeader("nonce", rand.Text()))
	if err != nil {
		return "", err
	}
	now := time.Now()
	assertion, err := jwt.Signed(signer).Claims(jwt.Claims{
		Issuer: c.ClientID, Subject: c.ClientID, Audience: jwt.Audience{publicHost}, IssuedAt: jwt.NewNumericDate(now), Expiry: jwt.NewNumericDate(now.Add(time.Minute)),
	}).Serialize()
	if err != nil {
		return "", err
	}
	token, err := people.Exchange(ctx, identity.TokenRequest{
		ClientID: c.ClientID, GrantType: identity.GrantClientCredentials, AssertionType: identity.AssertionJWT, Assertion: assertion,
	})
	return token.Access, err
}

// arrival is when a connector had a task in its hands.
type arrival struct {
	at  time.Time
	err error
}

// waiting is a connector that asks for tasks, and says that it did them.
type waiting struct {
	batonv1.BatonServiceClient

	host    string
	arrived chan<- arrival
}

// begin greets the server, is done with its first sync at once, and waits for
// tasks until the context ends.
func (w waiting) begin(ctx context.Context) error {
	_, err := w.Hello(ctx, batonv1.BatonServiceHelloRequest_builder{HostId: w.host, ConnectorMetadata: v2.ConnectorMetadata_builder{DisplayName: "Bank"}.Build()}.Build())
	if err != nil {
		return err
	}
	first, err := w.GetTask(ctx, batonv1.BatonServiceGetTaskRequest_builder{HostId: w.host}.Build())
	if err != nil {
		return err
	}
	if first.GetTask().GetSyncFull() == nil {
		return fmt.Errorf("the first task isn't a sync but %v", first)
	}
	go func() {
		for ctx.Err() == nil {
			answer, err := w.GetTask(ctx, batonv1.BatonServiceGetTaskRequest_builder{HostId: w.host}.Build())
			at := time.Now()
			if err == nil && answer.GetTask() == nil {
				continue
			}
			if err == nil {
				_, err = w.FinishTask(ctx, batonv1.BatonServiceFinishTaskRequest_builder{
					HostId: w.host, TaskId: answer.GetTask().GetId(), Success: &batonv1.BatonServiceFinishTaskRequest_Success{},
				}.Build())
			}
			select {
			case w.arrived <- arrival{at, err}:
			case <-ctx.Done():
			}
		}
	}()
	return nil
}
