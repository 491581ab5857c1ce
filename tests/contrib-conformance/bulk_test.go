package contrib

import (
	"context"
	"errors"
	"slices"

	contribstate "github.com/dapr/components-contrib/state"
)

// pluggableStore is what dapr/dapr's client for pluggable state stores can do.
type pluggableStore interface {
	contribstate.TransactionalStore
	contribstate.Querier
	contribstate.TransactionalStoreMultiMaxSize
	contribstate.Store
}

// errorPerKey makes bulk writes that bring ETags one bulk write per key: the cases want an error per key, for which the
// pluggable protocol, with one status for all, has no room. Writes that bring none, and bulk reads, stay what they are.
type errorPerKey struct{ pluggableStore }

func (s errorPerKey) BulkSet(ctx context.Context, requests []contribstate.SetRequest, options contribstate.BulkStoreOpts) error {
	if !slices.ContainsFunc(requests, contribstate.SetRequest.HasETag) {
		return s.pluggableStore.BulkSet(ctx, requests, options)
	}
	var failed []error
	for _, request := range requests {
		if err := s.pluggableStore.BulkSet(ctx, []contribstate.SetRequest{request}, options); err != nil {
			failed = append(failed, contribstate.NewBulkStoreError(request.Key, err))
		}
	}
	return errors.Join(failed...)
}

func (s errorPerKey) BulkDelete(ctx context.Context, requests []contribstate.DeleteRequest, options contribstate.BulkStoreOpts) error {
	if !slices.ContainsFunc(requests, contribstate.DeleteRequest.HasETag) {
		return s.pluggableStore.BulkDelete(ctx, requests, options)
	}
	var failed []error
	for _, request := range requests {
		if err := s.pluggableStore.BulkDelete(ctx, []contribstate.DeleteRequest{request}, options); err != nil {
			failed = append(failed, contribstate.NewBulkStoreError(request.Key, err))
		}
	}
	return errors.Join(failed...)
}
