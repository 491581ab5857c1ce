package contrib

import (
	"context"
	"errors"

	contribstate "github.com/dapr/components-contrib/state"
)

// pluggableStore is what dapr/dapr's client for pluggable state stores can do.
type pluggableStore interface {
	contribstate.TransactionalStore
	contribstate.Querier
	contribstate.TransactionalStoreMultiMaxSize
	contribstate.Store
}

// oneByOne makes bulk writes one call each: the cases want an error per key, for which the pluggable protocol, with one
// status for all, has no room. Bulk reads stay what they are.
type oneByOne struct{ pluggableStore }

func (s oneByOne) BulkSet(ctx context.Context, requests []contribstate.SetRequest, _ contribstate.BulkStoreOpts) error {
	var failed []error
	for i := range requests {
		if err := s.Set(ctx, &requests[i]); err != nil {
			failed = append(failed, contribstate.NewBulkStoreError(requests[i].Key, err))
		}
	}
	return errors.Join(failed...)
}

func (s oneByOne) BulkDelete(ctx context.Context, requests []contribstate.DeleteRequest, _ contribstate.BulkStoreOpts) error {
	var failed []error
	for i := range requests {
		if err := s.Delete(ctx, &requests[i]); err != nil {
			failed = append(failed, contribstate.NewBulkStoreError(requests[i].Key, err))
		}
	}
	return errors.Join(failed...)
}
