package contrib

import (
	"context"

	contriblock "github.com/dapr/components-contrib/lock"
	contribmetadata "github.com/dapr/components-contrib/metadata"
	runtimev1 "github.com/dapr/dapr/pkg/proto/runtime/v1"
)

// lockStore is the lock behind a sidecar's API.
type lockStore struct{ sidecar }

func (s *lockStore) InitLockStore(ctx context.Context, metadata contriblock.Metadata) error {
	return s.start(ctx, metadata.Properties)
}

func (s *lockStore) TryLock(ctx context.Context, request *contriblock.TryLockRequest) (*contriblock.TryLockResponse, error) {
	answer, err := s.client.TryLockAlpha1(ctx, &runtimev1.TryLockRequest{
		StoreName:       componentName,
		ResourceId:      request.ResourceID,
		LockOwner:       request.LockOwner,
		ExpiryInSeconds: request.ExpiryInSeconds,
	})
	if err != nil {
		return nil, err
	}
	return &contriblock.TryLockResponse{Success: answer.GetSuccess()}, nil
}

func (s *lockStore) Unlock(ctx context.Context, request *contriblock.UnlockRequest) (*contriblock.UnlockResponse, error) {
	answer, err := s.client.UnlockAlpha1(ctx, &runtimev1.UnlockRequest{
		StoreName:  componentName,
		ResourceId: request.ResourceID,
		LockOwner:  request.LockOwner,
	})
	if err != nil {
		return nil, err
	}
	// The API has the component's numbers.
	return &contriblock.UnlockResponse{Status: contriblock.Status(answer.GetStatus())}, nil
}

func (*lockStore) GetComponentMetadata() contribmetadata.MetadataMap { return nil }

// Close has nothing to do: the sidecar ends with the test.
func (*lockStore) Close() error { return nil }
