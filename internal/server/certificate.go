package server

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"log/slog"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"sync"
	"time"

	"airlock/internal/base/clock"
	"airlock/internal/base/seal"
)

// authority is our own certificate authority, made at the first start and kept,
// its key sealed, in the database, so that all replicas have the same.
type authority struct {
	key         *ecdsa.PrivateKey
	certificate *x509.Certificate
	pem         []byte
	clock       clock.Clock
}

const (
	authorityLife   = 20 * 365 * day
	certificateLife = 90 * day
	renewBefore     = 30 * day
)

func openAuthority(ctx context.Context, vault *seal.Vault, c clock.Clock) (*authority, error) {
	// Key and certificate are one value, so that two replicas at their first
	// start can't each leave half of it.
	text, err := vault.Make(ctx, "ca", func() ([]byte, error) { return makeAuthority(c.Now()) })
	if err != nil {
		return nil, fmt.Errorf("the server's CA: %w", err)
	}
	keyBlock, rest := pem.Decode(text)
	certificateBlock, _ := pem.Decode(rest)
	if keyBlock == nil || certificateBlock == nil {
		return nil, errors.New("the server's CA can't be read")
	}
	key, err := x509.ParseECPrivateKey(keyBlock.Bytes)
	if err != nil {
		return nil, fmt.Errorf("the key of the server's CA: %w", err)
	}
	certificate, err := x509.ParseCertificate(certificateBlock.Bytes)
	if err != nil {
		return nil, fmt.Errorf("the certificate of the server's CA: %w", err)
	}
	return &authority{key: key, certificate: certificate, pem: pem.EncodeToMemory(certificateBlock), clock: c}, nil
}

func makeAuthority(now time.Time) ([]byte, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	serial, err := serialNumber()
	if err != nil {
		return nil, err
	}
	template := &x509.Certificate{
		SerialNumber: serial, Subject: pkix.Name{CommonName: "Airlock CA " + serial.Text(36)},
		NotBefore: now.Add(-time.Hour), NotAfter: now.Add(authorityLife),
		IsCA: true, BasicConstraintsValid: true, MaxPathLenZero: true,
		KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageCRLSign,
	}
	certificate, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		return nil, err
	}
	private, err := x509.MarshalECPrivateKey(key)
	if err != nil {
		return nil, err
	}
	return append(pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: private}),
		pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: certificate})...), nil
}

// nameForm is what can stand in a certificate as a host's name.
var nameForm = regexp.MustCompile(`^[A-Za-z0-9_]([A-Za-z0-9._-]*[A-Za-z0-9])?$`)

func serialNumber() (*big.Int, error) {
	return rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 120))
}

// issue makes a certificate for hosts: names and addresses.
func (a *authority) issue(hosts []string) (*tls.Certificate, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	serial, err := serialNumber()
	if err != nil {
		return nil, err
	}
	now := a.clock.Now()
	template := &x509.Certificate{
		SerialNumber: serial, Subject: pkix.Name{CommonName: "airlock"},
		NotBefore: now.Add(-time.Hour), NotAfter: now.Add(certificateLife),
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	for _, host := range hosts {
		if ip := net.ParseIP(host); ip != nil {
			template.IPAddresses = append(template.IPAddresses, ip)
		} else if nameForm.MatchString(host) { // a machine may be called anything
			template.DNSNames = append(template.DNSNames, host)
		}
	}
	certificate, err := x509.CreateCertificate(rand.Reader, template, a.certificate, key.Public(), a.key)
	if err != nil {
		return nil, err
	}
	leaf, err := x509.ParseCertificate(certificate)
	if err != nil {
		return nil, err
	}
	return &tls.Certificate{Certificate: [][]byte{certificate, a.certificate.Raw}, PrivateKey: key, Leaf: leaf}, nil
}

// config serves certificates for hosts, each renewed before it ends.
func (a *authority) config(hosts []string) (*tls.Config, error) {
	current, err := a.issue(hosts)
	if err != nil {
		return nil, fmt.Errorf("issue the server's certificate: %w", err)
	}
	var mu sync.Mutex
	return &tls.Config{MinVersion: tls.VersionTLS12, NextProtos: []string{"h2", "http/1.1"}, GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) {
		mu.Lock()
		defer mu.Unlock()
		if a.clock.Now().Add(renewBefore).After(current.Leaf.NotAfter) {
			renewed, err := a.issue(hosts)
			if err != nil {
				return nil, err
			}
			current = renewed
		}
		return current, nil
	}}, nil
}

// writeCA writes the CA's certificate into a folder that holds nothing else: the
// SSL_CERT_DIR of connectors.
func (a *authority) writeCA(dir string) error {
	if err := os.MkdirAll(dir, 0o755); err != nil { //nolint:gosec // a certificate is public, and connectors of other users read it
		return fmt.Errorf("the CA's folder: %w", err)
	}
	name := filepath.Join(dir, "ca.pem")
	if there, err := os.ReadFile(name); err == nil && bytes.Equal(there, a.pem) { //nolint:gosec // our own file
		return nil
	}
	part := filepath.Join(filepath.Dir(dir), "ca.pem.part")  // beside the folder: that holds only the CA
	if err := os.WriteFile(part, a.pem, 0o644); err != nil { //nolint:gosec // the same
		return fmt.Errorf("write the CA's certificate: %w", err)
	}
	if err := os.Rename(part, name); err != nil {
		return fmt.Errorf("write the CA's certificate: %w", err)
	}
	return nil
}

// reloadAfter is how long the operator's certificate is served before its files
// are looked at again.
const reloadAfter = time.Minute

// reloading serves the operator's certificate, and reads it anew when its files
// change, as they do each few months. While they can't be read, as when one of
// the two is replaced and the other not yet, the one there was goes on.
func reloading(certFile, keyFile string, log *slog.Logger, c clock.Clock) *tls.Config {
	var mu sync.Mutex
	var current *tls.Certificate
	var read time.Time
	return &tls.Config{MinVersion: tls.VersionTLS12, NextProtos: []string{"h2", "http/1.1"}, GetCertificate: func(hello *tls.ClientHelloInfo) (*tls.Certificate, error) {
		mu.Lock()
		defer mu.Unlock()
		now := c.Now()
		if current != nil && now.Sub(read) < reloadAfter {
			return current, nil
		}
		fresh, err := tls.LoadX509KeyPair(certFile, keyFile)
		switch {
		case err == nil:
			current = &fresh
		case current == nil:
			return nil, err
		default:
			log.WarnContext(hello.Context(), "the certificate can't be read anew; the one there was goes on", "file", certFile, "until", current.Leaf.NotAfter, "error", err)
		}
		read = now
		return current, nil
	}}
}
