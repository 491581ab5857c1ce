using System;
using System.Threading;
using System.Threading.Tasks;
using Virtufin.Common;

namespace Virtufin.Gateway
{
    /// <summary>The gateway's four services: Gateway, Pubsub, State and Config.</summary>
    public sealed class GatewayClient : ServiceClient
    {
        /// <summary>The gateway's port for gRPC.</summary>
        public const int DefaultPort = 5002;

        private readonly global::Virtufin.Gateway.Gateway.GatewayClient gateway;
        private readonly global::Virtufin.Pubsub.Pubsub.PubsubClient pubsub;
        private readonly global::Virtufin.State.State.StateClient state;
        private readonly global::Virtufin.Config.Config.ConfigClient config;

        public GatewayClient(string host = "localhost", int port = DefaultPort)
            : this(new ServiceOptions(host, port))
        {
        }

        public GatewayClient(ServiceOptions options)
            : base(options)
        {
            gateway = new global::Virtufin.Gateway.Gateway.GatewayClient(Channel);
            pubsub = new global::Virtufin.Pubsub.Pubsub.PubsubClient(Channel);
            state = new global::Virtufin.State.State.StateClient(Channel);
            config = new global::Virtufin.Config.Config.ConfigClient(Channel);
        }

        /// <summary>Calls a unary method with an encoded message.</summary>
        public async Task<InvokeResponse> InvokeAsync(
            InvokeRequest request,
            CancellationToken cancellation = default(CancellationToken))
        {
            var answer = await UnaryAsync(options => gateway.InvokeAsync(request, options), cancellation).ConfigureAwait(false);
            if (!answer.Success)
            {
                throw ServiceException.OfName(answer.Status, answer.Message);
            }
            return answer;
        }

        /// <summary>Calls a unary method with a message as JSON.</summary>
        public async Task<InvokeJsonResponse> InvokeJsonAsync(
            InvokeJsonRequest request,
            CancellationToken cancellation = default(CancellationToken))
        {
            var answer = await UnaryAsync(options => gateway.InvokeJsonAsync(request, options), cancellation).ConfigureAwait(false);
            if (!answer.Success)
            {
                throw ServiceException.OfName(answer.Status, answer.Message);
            }
            return answer;
        }

        /// <summary>The names of the backends.</summary>
        public Task<ListServicesResponse> ListServicesAsync(
            Empty request,
            CancellationToken cancellation = default(CancellationToken))
        {
            return UnaryAsync(options => gateway.ListServicesAsync(request, options), cancellation);
        }

        /// <summary>The methods of a backend.</summary>
        public Task<ListMethodsResponse> ListMethodsAsync(
            ListMethodsRequest request,
            CancellationToken cancellation = default(CancellationToken))
        {
            return UnaryAsync(options => gateway.ListMethodsAsync(request, options), cancellation);
        }

        /// <summary>The fields of a message of a method.</summary>
        public Task<GetMethodSchemaResponse> GetMethodSchemaAsync(
            GetMethodSchemaRequest request,
            CancellationToken cancellation = default(CancellationToken))
        {
            return UnaryAsync(options => gateway.GetMethodSchemaAsync(request, options), cancellation);
        }

        /// <summary>Events of services.</summary>
        public Task<Subscription<TopicEventRequest>> SubscribeEventsAsync(
            SubscribeRequest request,
            CancellationToken cancellation = default(CancellationToken))
        {
            return StreamAsync(options => gateway.Subscribe(request, options), cancellation);
        }

        /// <summary>Publishes an event.</summary>
        public async Task<global::Virtufin.Pubsub.PublishResponse> PublishEventAsync(
            global::Virtufin.Pubsub.PublishRequest request,
            CancellationToken cancellation = default(CancellationToken))
        {
            var answer = await UnaryAsync(options => pubsub.PublishEventAsync(request, options), cancellation).ConfigureAwait(false);
            Acknowledge(answer.Status);
            return answer;
        }

        /// <summary>Every event of topics.</summary>
        public Task<Subscription<global::Virtufin.Pubsub.PubsubSubscribeResponse>> SubscribeAsync(
            global::Virtufin.Pubsub.PubsubSubscribeRequest request,
            CancellationToken cancellation = default(CancellationToken))
        {
            return StreamAsync(options => pubsub.Subscribe(request, options), cancellation);
        }

        /// <summary>Ends a subscription.</summary>
        public async Task<global::Virtufin.Pubsub.UnsubscribeResponse> UnsubscribeAsync(
            global::Virtufin.Pubsub.UnsubscribeRequest request,
            CancellationToken cancellation = default(CancellationToken))
        {
            var answer = await UnaryAsync(options => pubsub.UnsubscribeAsync(request, options), cancellation).ConfigureAwait(false);
            Acknowledge(answer.Status);
            return answer;
        }

        /// <summary>Stores a value; the answer has its new ETag.</summary>
        public async Task<global::Virtufin.State.SaveStateResponse> SaveStateAsync(
            global::Virtufin.State.SaveStateRequest request,
            CancellationToken cancellation = default(CancellationToken))
        {
            var answer = await UnaryAsync(options => state.SaveStateAsync(request, options), cancellation).ConfigureAwait(false);
            Acknowledge(answer.Status);
            return answer;
        }

        /// <summary>A stored value; value and ETag are empty where there is none.</summary>
        public Task<global::Virtufin.State.GetStateResponse> GetStateAsync(
            global::Virtufin.State.GetStateRequest request,
            CancellationToken cancellation = default(CancellationToken))
        {
            return UnaryAsync(options => state.GetStateAsync(request, options), cancellation);
        }

        /// <summary>All registered keys that have a value.</summary>
        public Task<global::Virtufin.State.GetAllStateResponse> GetAllStateAsync(
            global::Virtufin.State.GetAllStateRequest request,
            CancellationToken cancellation = default(CancellationToken))
        {
            return UnaryAsync(options => state.GetAllStateAsync(request, options), cancellation);
        }

        /// <summary>Makes keys known.</summary>
        public async Task<global::Virtufin.State.RegisterKeysResponse> RegisterKeysAsync(
            global::Virtufin.State.RegisterKeysRequest request,
            CancellationToken cancellation = default(CancellationToken))
        {
            var answer = await UnaryAsync(options => state.RegisterKeysAsync(request, options), cancellation).ConfigureAwait(false);
            Acknowledge(answer.Status);
            return answer;
        }

        /// <summary>Removes a value.</summary>
        public async Task<global::Virtufin.State.DeleteStateResponse> DeleteStateAsync(
            global::Virtufin.State.DeleteStateRequest request,
            CancellationToken cancellation = default(CancellationToken))
        {
            var answer = await UnaryAsync(options => state.DeleteStateAsync(request, options), cancellation).ConfigureAwait(false);
            Acknowledge(answer.Status);
            return answer;
        }

        /// <summary>The backends as they are configured.</summary>
        public Task<global::Virtufin.Config.ListConfigServicesResponse> ListConfigServicesAsync(
            global::Virtufin.Config.ListConfigServicesRequest request,
            CancellationToken cancellation = default(CancellationToken))
        {
            return UnaryAsync(options => config.ListServicesAsync(request, options), cancellation);
        }

        /// <summary>A backend as it is configured.</summary>
        public Task<global::Virtufin.Config.GetConfigServiceResponse> GetConfigServiceAsync(
            global::Virtufin.Config.GetConfigServiceRequest request,
            CancellationToken cancellation = default(CancellationToken))
        {
            return UnaryAsync(options => config.GetServiceAsync(request, options), cancellation);
        }

        /// <summary>Calls a unary method of a backend by its name; request and answer are JSON.</summary>
        public async Task<string> CallAsync(
            string service,
            string method,
            string json = "{}",
            CancellationToken cancellation = default(CancellationToken))
        {
            var request = new InvokeJsonRequest { Service = service, Method = method, RequestData = json };
            var answer = await InvokeJsonAsync(request, cancellation).ConfigureAwait(false);
            return answer.ResponseData;
        }

        /// <summary>
        /// Publishes an event with a fresh correlation id and gives the first event on the reply topic that carries the same
        /// one. The subscription stands before the event is published; events for others are passed over.
        /// </summary>
        /// <exception cref="NoReplyException">The time is over.</exception>
        public async Task<global::Virtufin.Pubsub.PubsubSubscribeResponse> PublishWithResultAsync(
            global::Virtufin.Pubsub.PublishRequest request,
            string replyTopic,
            TimeSpan timeout,
            CancellationToken cancellation = default(CancellationToken))
        {
            var correlationId = Guid.NewGuid().ToString();
            request = request.Clone();
            request.Metadata["correlationid"] = correlationId;
            var topics = new global::Virtufin.Pubsub.PubsubSubscribeRequest { Topics = { replyTopic } };
            using (var limit = CancellationTokenSource.CreateLinkedTokenSource(cancellation))
            using (var replies = await SubscribeAsync(topics, limit.Token).ConfigureAwait(false))
            {
                await PublishEventAsync(request, cancellation).ConfigureAwait(false);
                limit.CancelAfter(timeout);
                try
                {
                    while (await replies.NextAsync(limit.Token).ConfigureAwait(false))
                    {
                        string id;
                        if (replies.Current.Metadata.TryGetValue("correlationid", out id) && id == correlationId)
                        {
                            return replies.Current;
                        }
                    }
                }
                catch (ServiceException error)
                    when (error.Code == Grpc.Core.StatusCode.Cancelled && !cancellation.IsCancellationRequested)
                {
                    throw new NoReplyException(replyTopic, correlationId, timeout);
                }
                catch (OperationCanceledException) when (!cancellation.IsCancellationRequested)
                {
                    throw new NoReplyException(replyTopic, correlationId, timeout);
                }
                throw ServiceException.OfName("UNAVAILABLE", "the gateway ended the subscription before a reply came");
            }
        }
    }
}
