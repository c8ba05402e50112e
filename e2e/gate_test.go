package e2e

import (
	"io"
	"net"
	"sync"
	"testing"
)

// gate is the way from connectors to a server. It can be closed in the middle of
// an upload.
type gate struct {
	net.Listener
	to string // the server's address

	mu      sync.Mutex
	most    int           // bytes that a connection may send; 0 is all
	reached chan struct{} // closed once one wants to send more
	opened  chan struct{}
}

func newGate(t *testing.T) *gate {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	g := &gate{Listener: listener}
	t.Cleanup(func() { _ = listener.Close() })
	return g
}

// serve lets connections through.
func (g *gate) serve() {
	for {
		from, err := g.Accept()
		if err != nil {
			return // the test is over
		}
		go g.pass(from)
	}
}

func (g *gate) pass(from net.Conn) {
	defer from.Close()
	to, err := net.Dial("tcp", g.to)
	if err != nil {
		return // the server is away
	}
	defer to.Close()
	go func() {
		_, _ = io.Copy(from, to)
		_ = from.Close()
	}()
	buffer := make([]byte, 4<<10)
	for sent := 0; ; {
		n, err := from.Read(buffer)
		sent += n
		g.wait(sent)
		if _, failed := to.Write(buffer[:n]); err != nil || failed != nil {
			return
		}
	}
}

// wait waits at the closed gate.
func (g *gate) wait(sent int) {
	g.mu.Lock()
	opened := g.opened
	if g.most == 0 || sent < g.most {
		opened = nil
	} else if g.reached != nil {
		close(g.reached)
		g.reached = nil
	}
	g.mu.Unlock()
	if opened != nil {
		<-opened
	}
}

// shut closes the gate to whoever has sent so many bytes, and tells when somebody
// has; let opens it.
func (g *gate) shut(most int) (reached <-chan struct{}, let func()) {
	g.mu.Lock()
	defer g.mu.Unlock()
	told, opened := make(chan struct{}), make(chan struct{})
	g.most, g.reached, g.opened = most, told, opened
	return told, func() {
		g.mu.Lock()
		defer g.mu.Unlock()
		g.most, g.reached = 0, nil
		close(opened)
	}
}
