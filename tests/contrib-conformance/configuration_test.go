package contrib

import (
	"context"
	"errors"

	contribconfiguration "github.com/dapr/components-contrib/configuration"
	contribmetadata "github.com/dapr/components-contrib/metadata"
	commonv1 "github.com/dapr/dapr/pkg/proto/common/v1"
	runtimev1 "github.com/dapr/dapr/pkg/proto/runtime/v1"
)

// configurationStore is the store behind a sidecar's API.
type configurationStore struct{ sidecar }

func (s *configurationStore) Init(ctx context.Context, metadata contribconfiguration.Metadata) error {
	return s.start(ctx, metadata.Properties)
}

func (s *configurationStore) Get(ctx context.Context, request *contribconfiguration.GetRequest) (*contribconfiguration.GetResponse, error) {
	answer, err := s.client.GetConfiguration(ctx, &runtimev1.GetConfigurationRequest{
		StoreName: componentName,
		Keys:      request.Keys,
		Metadata:  request.Metadata,
	})
	if err != nil {
		return nil, err
	}
	return &contribconfiguration.GetResponse{Items: items(answer.GetItems())}, nil
}

func (s *configurationStore) Subscribe(ctx context.Context, request *contribconfiguration.SubscribeRequest, handler contribconfiguration.UpdateHandler) (string, error) {
	// Not with the case's context: see outliving.
	stream, err := s.client.SubscribeConfiguration(s.t.Context(), &runtimev1.SubscribeConfigurationRequest{
		StoreName: componentName,
		Keys:      request.Keys,
		Metadata:  request.Metadata,
	})
	if err != nil {
		return "", err
	}
	// The first message says only that the subscription stands.
	first, err := stream.Recv()
	if err != nil {
		return "", err
	}
	if len(first.GetItems()) != 0 {
		return "", errors.New("the first message of a subscription has items")
	}
	go func() {
		for {
			event, err := stream.Recv()
			if err != nil {
				return
			}
			_ = handler(ctx, &contribconfiguration.UpdateEvent{ID: event.GetId(), Items: items(event.GetItems())})
		}
	}()
	return first.GetId(), nil
}

func (s *configurationStore) Unsubscribe(ctx context.Context, request *contribconfiguration.UnsubscribeRequest) error {
	answer, err := s.client.UnsubscribeConfiguration(ctx, &runtimev1.UnsubscribeConfigurationRequest{
		StoreName: componentName,
		Id:        request.ID,
	})
	if err == nil && !answer.GetOk() {
		err = errors.New(answer.GetMessage())
	}
	return err
}

// outliving subscribes with the context of the component's test: the cases subscribe in a test of its own, whose context
// ends before the first change, so that upstream's stores of this version let go of the subscription and fail.
type outliving struct {
	contribconfiguration.Store
	ctx context.Context
}

func (s outliving) Subscribe(_ context.Context, request *contribconfiguration.SubscribeRequest, handler contribconfiguration.UpdateHandler) (string, error) {
	return s.Store.Subscribe(s.ctx, request, handler)
}

func (*configurationStore) GetComponentMetadata() contribmetadata.MetadataMap { return nil }

// Close has nothing to do: the sidecar ends with the test.
func (*configurationStore) Close() error { return nil }

// items are the API's as a component gives them. The wire knows no difference between no map and an empty one; the
// cases compare with an empty one.
func items(answered map[string]*commonv1.ConfigurationItem) map[string]*contribconfiguration.Item {
	items := make(map[string]*contribconfiguration.Item, len(answered))
	for key, item := range answered {
		metadata := item.GetMetadata()
		if metadata == nil {
			metadata = map[string]string{}
		}
		items[key] = &contribconfiguration.Item{Value: item.GetValue(), Version: item.GetVersion(), Metadata: metadata}
	}
	return items
}
