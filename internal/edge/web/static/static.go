// Package static holds what pages load: style, scripts, pictures. All of it is
// part of the program, is compressed once, and has an address with a hash of its
// content in it, so that a browser keeps it for ever.
package static

import (
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"embed"
	"encoding/base64"
	"fmt"
	"io/fs"
	"net/http"
	"path"
	"slices"
	"strconv"
	"strings"
	"sync"

	"github.com/klauspost/compress/zstd"
)

// Path begins the addresses.
const Path = "/static/"

//go:embed css js *.svg
var files embed.FS

// sheets are the parts of app.css in their order; the layers they name are put
// in order by the first.
var sheets = []string{
	"tokens", "base", "layout", "small", "button", "field", "navigate", "panel", "table", "feedback", "text", "chart", "bar",
	"connectors", "inventory", "unfold", "gate", "audit", "home", "sheet",
}

// scripts are the parts of app.js. Each is a block of its own in the one module:
// they share nothing but the document.
var scripts = []string{"htmx", "page", "keys", "table", "live"}

// asset is a file as it is sent.
type asset struct {
	kind             string // its Content-Type
	plain, gzip, zst []byte
}

// assets are all files: by address, and the address of each name.
type assets struct {
	byPath map[string]asset
	path   map[string]string
}

var all = sync.OnceValue(func() assets {
	a := assets{byPath: map[string]asset{}, path: map[string]string{}}
	for _, name := range []string{"icons.svg", "mark.svg", "down.svg"} {
		a.add(name, "image/svg+xml", read(name))
	}
	var css, js bytes.Buffer
	for _, sheet := range sheets {
		css.Write(read("css/" + sheet + ".css"))
	}
	style := css.String()
	for name, address := range a.path {
		style = strings.ReplaceAll(style, "url("+name+")", "url("+path.Base(address)+")")
	}
	a.add("app.css", "text/css; charset=utf-8", []byte(style))
	for _, script := range scripts {
		fmt.Fprintf(&js, "{\n%s}\n", read("js/"+script+".js"))
	}
	a.add("htmx.js", "text/javascript; charset=utf-8", read("js/htmx.min.js"))
	a.add("app.js", "text/javascript; charset=utf-8", js.Bytes())
	return a
})

// read is a file of ours, which is there: it was when the program was built.
func read(name string) []byte {
	content, err := fs.ReadFile(files, name)
	if err != nil {
		panic(err)
	}
	return content
}

func (a *assets) add(name, kind string, content []byte) {
	sum := sha256.Sum256(content)
	extension := path.Ext(name)
	address := Path + strings.TrimSuffix(name, extension) + "-" + base64.RawURLEncoding.EncodeToString(sum[:6]) + extension
	a.path[name] = address
	a.byPath[address] = asset{kind: kind, plain: content, gzip: gzipped(content), zst: zstandard(content)}
}

func gzipped(content []byte) []byte {
	var out bytes.Buffer
	w, err := gzip.NewWriterLevel(&out, gzip.BestCompression)
	if err != nil {
		panic(err)
	}
	_, _ = w.Write(content) // to memory
	_ = w.Close()
	return out.Bytes()
}

func zstandard(content []byte) []byte {
	w, err := zstd.NewWriter(nil, zstd.WithEncoderLevel(zstd.SpeedBestCompression), zstd.WithEncoderConcurrency(1))
	if err != nil {
		panic(err)
	}
	return w.EncodeAll(content, nil)
}

// URL is the address of app.css, app.js, htmx.js, icons.svg or mark.svg. There
// are no others: a page that names one is wrong, and fails.
func URL(name string) string {
	address, ok := all().path[name]
	if !ok {
		panic("there is no asset " + name)
	}
	return address
}

// Handler serves the assets below Path.
func Handler() http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		a, ok := all().byPath[r.URL.Path]
		if !ok {
			http.NotFound(w, r)
			return
		}
		body, header := a.plain, w.Header()
		accepted := encodings(r)
		switch {
		case slices.Contains(accepted, "zstd"):
			body = a.zst
			header.Set("Content-Encoding", "zstd")
		case slices.Contains(accepted, "gzip"):
			body = a.gzip
			header.Set("Content-Encoding", "gzip")
		}
		header.Set("Content-Type", a.kind)
		header.Set("Content-Length", strconv.Itoa(len(body)))
		header.Set("Cache-Control", "public, max-age=31536000, immutable")
		header.Set("Vary", "Accept-Encoding")
		_, _ = w.Write(body) // who went away needs no answer
	})
}

// encodings are those that the browser takes.
func encodings(r *http.Request) []string {
	var list []string
	for one := range strings.SplitSeq(r.Header.Get("Accept-Encoding"), ",") {
		name, parameters, _ := strings.Cut(strings.TrimSpace(one), ";")
		if q := strings.TrimPrefix(strings.ReplaceAll(parameters, " ", ""), "q="); strings.Trim(q, "0.") == "" && q != "" {
			continue
		}
		list = append(list, name)
	}
	return list
}
