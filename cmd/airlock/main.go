// Command airlock is the governance server and its command line.
package main

import (
	"context"
	"os"
	"os/signal"
	"syscall"

	"airlock/internal/edge/admin/command"
	"airlock/internal/server"
)

// version is set when it is built.
var version = "dev"

func main() {
	ctx := untilSignal()
	os.Exit(command.Run(ctx, command.New(version, os.Getenv, server.Commands(version, os.Getenv, os.Environ()...)...)))
}

// untilSignal is a context that ends with the first signal; the second ends the
// process at once.
func untilSignal() context.Context {
	ctx, cancel := context.WithCancel(context.Background())
	signals := make(chan os.Signal, 2)
	signal.Notify(signals, os.Interrupt, syscall.SIGTERM)
	go func() {
		<-signals
		cancel()
		<-signals
		os.Exit(command.ExitInterrupted)
	}()
	return ctx
}
