package contrib

import (
	"context"

	contribbindings "github.com/dapr/components-contrib/bindings"
)

// endedByClose ends a reading with its binding: dapr/dapr's client waits in Close for a stream that only the context
// of Read ends.
type endedByClose struct {
	contribbindings.InputBinding
	ctx    context.Context
	cancel context.CancelFunc
}

func newEndedByClose(binding contribbindings.InputBinding) *endedByClose {
	ctx, cancel := context.WithCancel(context.Background())
	return &endedByClose{InputBinding: binding, ctx: ctx, cancel: cancel}
}

func (b *endedByClose) Read(_ context.Context, handler contribbindings.Handler) error {
	return b.InputBinding.Read(b.ctx, handler)
}

func (b *endedByClose) Close() error {
	b.cancel()
	return b.InputBinding.Close()
}
