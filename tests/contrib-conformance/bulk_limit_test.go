package contrib

import (
	"context"
	"errors"
	"net"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/reflection"
	"google.golang.org/grpc/status"

	contribmetadata "github.com/dapr/components-contrib/metadata"
	contribstate "github.com/dapr/components-contrib/state"
	stateinmemory "github.com/dapr/components-contrib/state/in-memory"
	"github.com/dapr/dapr/pkg/components/state"
	componentsv1 "github.com/dapr/dapr/pkg/proto/components/v1"
)

// upstreamStore is upstream's own in-memory store as a pluggable component, as far as the test of a limit needs it.
type upstreamStore struct {
	componentsv1.UnimplementedStateStoreServer
	store contribstate.Store
}

func (s *upstreamStore) Init(ctx context.Context, request *componentsv1.InitRequest) (*componentsv1.InitResponse, error) {
	return &componentsv1.InitResponse{}, s.store.Init(ctx, contribstate.Metadata{Base: contribmetadata.Base{
		Properties: request.GetMetadata().GetProperties(),
	}})
}

func (s *upstreamStore) Features(context.Context, *componentsv1.FeaturesRequest) (*componentsv1.FeaturesResponse, error) {
	return &componentsv1.FeaturesResponse{}, nil
}

// BulkSet says all that the protocol can say of an ETag that does not match.
func (s *upstreamStore) BulkSet(ctx context.Context, request *componentsv1.BulkSetRequest) (*componentsv1.BulkSetResponse, error) {
	var sets []contribstate.SetRequest
	for _, item := range request.GetItems() {
		set := contribstate.SetRequest{Key: item.GetKey(), Value: item.GetValue()}
		if item.GetEtag() != nil {
			set.ETag = &item.Etag.Value
		}
		sets = append(sets, set)
	}
	err := s.store.BulkSet(ctx, sets, contribstate.BulkStoreOpts{})
	var ofKey contribstate.BulkStoreError
	if !errors.As(err, &ofKey) {
		return &componentsv1.BulkSetResponse{}, err
	}
	answer, err := status.New(codes.FailedPrecondition, ofKey.Error()).WithDetails(&errdetails.BadRequest{
		FieldViolations: []*errdetails.BadRequest_FieldViolation{{Field: "etag", Description: ofKey.Error()}},
	})
	if err != nil {
		return nil, err
	}
	return nil, answer.Err()
}

// TestBulkErrorsLoseTheirKeys shows what errorPerKey is for: neither upstream's store nor ours can tell a sidecar which
// key of a bulk write failed.
func TestBulkErrorsLoseTheirKeys(t *testing.T) {
	bulk := []contribstate.SetRequest{
		{Key: "a", Value: []byte("1")},
		{Key: "b", Value: []byte("1"), ETag: new(string)},
	}
	*bulk[1].ETag = "999"
	var ofKey contribstate.BulkStoreError

	direct := stateinmemory.NewInMemoryStateStore(log)
	require.NoError(t, direct.Init(t.Context(), contribstate.Metadata{}))
	require.ErrorAs(t, direct.BulkSet(t.Context(), bulk, contribstate.BulkStoreOpts{}), &ofKey)

	folder, err := os.MkdirTemp("", "otg")
	require.NoError(t, err)
	t.Cleanup(func() { _ = os.RemoveAll(folder) })
	socket := filepath.Join(folder, "c.sock")
	listener, err := net.Listen("unix", socket)
	require.NoError(t, err)
	server := grpc.NewServer()
	componentsv1.RegisterStateStoreServer(server, &upstreamStore{store: stateinmemory.NewInMemoryStateStore(log)})
	reflection.Register(server)
	go func() { _ = server.Serve(listener) }()
	t.Cleanup(server.Stop)

	for name, socket := range map[string]string{"upstream's": socket, "ours": serve(t, "state.in-memory", "")} {
		store := state.NewGRPCStateStore(log, socket)
		require.NoError(t, store.Init(t.Context(), contribstate.Metadata{}), name)
		err := store.BulkSet(t.Context(), bulk, contribstate.BulkStoreOpts{})
		var etag *contribstate.ETagError
		require.ErrorAs(t, err, &etag, name)
		require.False(t, errors.As(err, &ofKey), name)
		require.NoError(t, store.Close(), name)
	}
}
