package baton

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"os"
	"syscall"
	"time"

	baton "github.com/conductorone/baton-sdk/pb/c1/connectorapi/baton/v1"
	"google.golang.org/grpc"

	"airlock/internal/base/fault"
	"airlock/internal/base/trace"
)

const (
	// patience is how long an upload may send nothing.
	patience = 2 * time.Minute
	// tellEvery is how often it is told how much of a file has arrived.
	tellEvery = time.Second
)

var errSuperseded = fault.New(fault.Conflict, "another upload for the same task began")

// receive waits for the next message.
type receive func(ctx context.Context) (*baton.BatonServiceUploadAssetRequest, error)

type uploadStream = grpc.ClientStreamingServer[baton.BatonServiceUploadAssetRequest, baton.BatonServiceUploadAssetResponse]

// UploadAsset takes a file for a task: who sends it, then its bytes, then its hash.
// Nothing of it counts before the hash fits.
func (s *Server) UploadAsset(stream uploadStream) error {
	ctx := stream.Context()
	receive := receiver(ctx, stream)
	first, err := receive(ctx)
	switch {
	case errors.Is(err, io.EOF) || err == nil && !first.HasMetadata():
		return fault.New(fault.Invalid, "an upload begins with who sends it, and for which task")
	case err != nil:
		return err
	}
	host, taskID := first.GetMetadata().GetHostId(), first.GetMetadata().GetTaskId()
	if err := valid(named(host), first); err != nil {
		return err
	}
	ctx = trace.With(ctx, "task", taskID)
	most, err := s.integration.BeginUpload(ctx, caller(ctx), host, taskID)
	if err != nil {
		return err
	}
	ctx, done := s.uploads.begin(ctx, taskID)
	defer done()
	file, err := s.scratch()
	if err != nil {
		return err
	}
	defer file.Close() //nolint:errcheck // it is gone with it
	checksum, err := s.fill(ctx, file, receive, taskID, most)
	if err != nil {
		return err
	}
	if _, err := file.Seek(0, io.SeekStart); err != nil {
		return fmt.Errorf("read the upload again: %w", err)
	}
	kept, err := s.integration.TakeUpload(ctx, caller(ctx), host, taskID, file)
	switch {
	case context.Cause(ctx) != nil && err != nil:
		return context.Cause(ctx)
	case err != nil:
		return err
	case kept.SHA256 != checksum:
		return fmt.Errorf("the upload was %s, and what was kept of it is %s", checksum, kept.SHA256)
	}
	s.log.InfoContext(ctx, "a file was uploaded", "kind", kept.Kind, "size", kept.Size, "sha256", kept.SHA256)
	return stream.SendAndClose(&baton.BatonServiceUploadAssetResponse{})
}

// scratch is a file that only we have, and that is gone with us.
func (s *Server) scratch() (*os.File, error) {
	if err := os.MkdirAll(s.dir, 0o700); err != nil {
		return nil, fmt.Errorf("make a place for an upload: %w", noRoom(err))
	}
	file, err := os.CreateTemp(s.dir, "upload-")
	if err != nil {
		return nil, fmt.Errorf("make a place for an upload: %w", noRoom(err))
	}
	if err := os.Remove(file.Name()); err != nil {
		return nil, errors.Join(fmt.Errorf("make a place for an upload: %w", err), file.Close())
	}
	return file, nil
}

// fill writes what comes into a file, up to the end mark, and checks its hash.
func (s *Server) fill(ctx context.Context, file io.Writer, receive receive, taskID string, most int64) (string, error) {
	digest := sha256.New()
	var size int64
	var told time.Time
	for {
		message, err := receive(ctx)
		switch {
		case errors.Is(err, io.EOF):
			return "", fault.New(fault.Invalid, "the upload ended without an end mark")
		case err != nil:
			return "", err
		case message.HasEof():
			return s.ends(ctx, message, digest, receive)
		case !message.HasData():
			return "", fault.New(fault.Invalid, "an upload says once who sends it; then come its bytes")
		}
		if err := valid(message); err != nil {
			return "", err
		}
		data := message.GetData().GetData()
		if size += int64(len(data)); size > most {
			return "", fault.New(fault.TooLarge, "the file has more than the %d bytes that are taken", most)
		}
		digest.Write(data)
		if _, err := file.Write(data); err != nil {
			return "", fmt.Errorf("write the upload: %w", noRoom(err))
		}
		if time.Since(told) < tellEvery {
			continue
		}
		told = time.Now()
		if err := s.integration.Uploading(ctx, caller(ctx), taskID, size); err != nil {
			return "", err
		}
	}
}

// ends checks the hash of what came against the end mark, and that nothing follows.
func (s *Server) ends(ctx context.Context, message *baton.BatonServiceUploadAssetRequest, digest hash.Hash, receive receive) (string, error) {
	if err := valid(message); err != nil {
		return "", err
	}
	found, told := hex.EncodeToString(digest.Sum(nil)), hex.EncodeToString(message.GetEof().GetSha256Checksum())
	if found != told {
		return "", fault.New(fault.Invalid, "the file arrived damaged: its SHA-256 is %s and should be %s; nothing of it was kept", found, told)
	}
	switch _, err := receive(ctx); {
	case errors.Is(err, io.EOF):
		return found, nil
	case err != nil:
		return "", err
	}
	return "", fault.New(fault.Invalid, "something came after the upload's end mark")
}

// noRoom says that a disk is full.
func noRoom(err error) error {
	if errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT) {
		return fault.New(fault.Exhausted, "the server's disk is full; nothing new is taken until there is room: %w", err)
	}
	return err
}

// receiver receives the messages of a stream, but waits only so long for each. It
// ends with the stream.
func receiver(ctx context.Context, stream uploadStream) receive {
	type received struct {
		message *baton.BatonServiceUploadAssetRequest
		err     error
	}
	from := make(chan received)
	go func() {
		for {
			message, err := stream.Recv()
			select {
			case from <- received{message, err}:
			case <-ctx.Done(): // the call is over
				return
			}
			if err != nil {
				return
			}
		}
	}()
	return func(ctx context.Context) (*baton.BatonServiceUploadAssetRequest, error) {
		silent := time.NewTimer(patience)
		defer silent.Stop()
		select {
		case next := <-from:
			return next.message, next.err
		case <-silent.C:
			return nil, fault.New(fault.Timeout, "the upload sent nothing for %s", patience)
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		}
	}
}
