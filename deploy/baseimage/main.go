// Command baseimage writes the base of baton-airflow's container image into
// ko's cache, so that ko needs no registry to build on.
//
//	baseimage DIR
//
// DIR is what KOCACHE names. The base holds Mozilla's certificate
// authorities, a user that is not root, a folder for temporary files and the
// link /baton-airflow, and nothing else: no shell, no libraries. It is the
// same to the byte wherever it is built; its digest stands in .ko.yaml and
// changes only with this program and the certificates it is built with.
package main

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"encoding/pem"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/match"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
	"github.com/google/go-containerregistry/pkg/v1/types"
	"golang.org/x/crypto/x509roots/fallback/bundle"
)

const uid = 65532 // the number by which images without a shell call their user

func main() {
	if len(os.Args) != 2 {
		fmt.Fprintln(os.Stderr, "usage: baseimage DIR")
		os.Exit(2)
	}
	digest, err := write(os.Args[1])
	if err != nil {
		fmt.Fprintln(os.Stderr, "baseimage:", err)
		os.Exit(1)
	}
	fmt.Println(digest)
}

// write stores the base for every platform as an OCI layout where ko looks
// for images it has fetched before, and returns the digest of its index.
func write(koCache string) (v1.Hash, error) {
	files, err := layer()
	if err != nil {
		return v1.Hash{}, err
	}
	path := filepath.Join(koCache, "img")
	cache, err := layout.FromPath(path)
	if err != nil {
		if cache, err = layout.Write(path, empty.Index); err != nil {
			return v1.Hash{}, fmt.Errorf("create image layout in %s: %w", path, err)
		}
	}
	var index v1.ImageIndex = empty.Index
	for _, arch := range []string{"amd64", "arm64"} {
		platform := v1.Platform{OS: "linux", Architecture: arch}
		img, err := image(platform, files)
		if err != nil {
			return v1.Hash{}, err
		}
		digest, err := img.Digest()
		if err != nil {
			return v1.Hash{}, err
		}
		// ko looks up the image of a platform among the layout's own entries.
		if err := cache.ReplaceImage(img, match.Digests(digest)); err != nil {
			return v1.Hash{}, fmt.Errorf("write image for %s: %w", platform, err)
		}
		index = mutate.AppendManifests(index, mutate.IndexAddendum{
			Add: img, Descriptor: v1.Descriptor{Platform: &platform},
		})
	}
	digest, err := index.Digest()
	if err != nil {
		return v1.Hash{}, err
	}
	if err := cache.ReplaceIndex(index, match.Digests(digest)); err != nil {
		return v1.Hash{}, fmt.Errorf("write image index: %w", err)
	}
	return digest, nil
}

func image(platform v1.Platform, files v1.Layer) (v1.Image, error) {
	oci := mutate.ConfigMediaType(mutate.MediaType(empty.Image, types.OCIManifestSchema1), types.OCIConfigJSON)
	img, err := mutate.AppendLayers(oci, files)
	if err != nil {
		return nil, err
	}
	config, err := img.ConfigFile()
	if err != nil {
		return nil, err
	}
	config = config.DeepCopy()
	config.OS, config.Architecture = platform.OS, platform.Architecture
	config.Config.User = fmt.Sprintf("%d:%d", uid, uid)
	config.Config.WorkingDir = "/tmp"
	// A connector ends its work on an interrupt; the usual SIGTERM would cut
	// it off in the middle of a task.
	config.Config.StopSignal = "SIGINT"
	return mutate.ConfigFile(img, config)
}

// layer is the file system of the base. It is wrapped as gzip but not
// compressed, because what compression makes of the same bytes may change from
// one Go to the next.
func layer() (v1.Layer, error) {
	files := []struct {
		tar.Header
		body []byte
	}{
		{Header: tar.Header{Name: "etc/", Mode: 0o755}},
		{Header: tar.Header{Name: "etc/passwd", Mode: 0o644}, body: fmt.Appendf(nil, "nonroot:x:%d:%d::/tmp:/sbin/nologin\n", uid, uid)},
		{Header: tar.Header{Name: "etc/group", Mode: 0o644}, body: fmt.Appendf(nil, "nonroot:x:%d:\n", uid)},
		// Container engines put their own over it; without one the connector
		// would not find the loopback address to speak with its child by.
		{Header: tar.Header{Name: "etc/hosts", Mode: 0o644}, body: []byte("127.0.0.1 localhost\n::1 localhost\n")},
		{Header: tar.Header{Name: "etc/ssl/", Mode: 0o755}},
		{Header: tar.Header{Name: "etc/ssl/certs/", Mode: 0o755}},
		{Header: tar.Header{Name: "etc/ssl/certs/ca-certificates.crt", Mode: 0o644}, body: authorities()},
		{Header: tar.Header{Name: "tmp/", Mode: 0o1777}},
		// Where other Baton images keep their binary; ko puts ours elsewhere.
		{Header: tar.Header{Name: "baton-airflow", Mode: 0o777, Typeflag: tar.TypeSymlink, Linkname: "/ko-app/baton-airflow"}},
	}
	var archive bytes.Buffer
	w := tar.NewWriter(&archive)
	for _, f := range files {
		f.Size = int64(len(f.body))
		if err := w.WriteHeader(&f.Header); err != nil {
			return nil, fmt.Errorf("archive %s: %w", f.Name, err)
		}
		if _, err := w.Write(f.body); err != nil {
			return nil, fmt.Errorf("archive %s: %w", f.Name, err)
		}
	}
	if err := w.Close(); err != nil {
		return nil, err
	}
	return tarball.LayerFromOpener(func() (io.ReadCloser, error) {
		return io.NopCloser(bytes.NewReader(archive.Bytes())), nil
	}, tarball.WithCompressionLevel(gzip.NoCompression), tarball.WithMediaType(types.OCILayer))
}

// authorities returns Mozilla's certificate authorities as PEM. A file of
// certificates can't say "only for certificates issued before a day", so the
// few that Mozilla trusts with such a limit stay out.
func authorities() []byte {
	var file bytes.Buffer
	for root := range bundle.Roots() {
		if root.Constraint == nil {
			file.Write(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: root.Certificate}))
		}
	}
	return file.Bytes()
}
