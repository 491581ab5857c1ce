using System.Threading;
using System.Threading.Tasks;
using Virtufin.Common;

namespace Virtufin.WebSocketManager
{
    /// <summary>The WebSocket manager.</summary>
    public sealed class WebSocketManagerClient : ServiceClient
    {
        /// <summary>The WebSocket manager's port for gRPC.</summary>
        public const int DefaultPort = 5202;

        private readonly global::Virtufin.WebSocketManager.WebSocketManager.WebSocketManagerClient stub;

        public WebSocketManagerClient(string host = "localhost", int port = DefaultPort)
            : this(new ServiceOptions(host, port))
        {
        }

        public WebSocketManagerClient(ServiceOptions options)
            : base(options)
        {
            stub = new global::Virtufin.WebSocketManager.WebSocketManager.WebSocketManagerClient(Channel);
        }

        /// <summary>Opens a connection to a ws or wss URL.</summary>
        public Task<ConnectResponse> ConnectAsync(
            ConnectRequest request,
            CancellationToken cancellation = default(CancellationToken))
        {
            return UnaryAsync(options => stub.ConnectAsync(request, options), cancellation);
        }

        /// <summary>The connections that carry all tags of the request.</summary>
        public Task<ListResponse> ListAsync(
            ListRequest request,
            CancellationToken cancellation = default(CancellationToken))
        {
            return UnaryAsync(options => stub.ListAsync(request, options), cancellation);
        }

        /// <summary>Closes a connection.</summary>
        public Task<Empty> DisconnectAsync(
            DisconnectRequest request,
            CancellationToken cancellation = default(CancellationToken))
        {
            return UnaryAsync(options => stub.DisconnectAsync(request, options), cancellation);
        }

        /// <summary>Sends a message and gives the one that answers it.</summary>
        public Task<SendResponse> SendAsync(
            SendRequest request,
            CancellationToken cancellation = default(CancellationToken))
        {
            var patience = System.TimeSpan.FromMilliseconds(request.TimeoutMs == 0 ? 10000 : request.TimeoutMs);
            return UnaryAsync(options => stub.SendAsync(request, options), cancellation, patience);
        }

        /// <summary>Sends a message as it is.</summary>
        public Task<Empty> SendRawAsync(
            SendRawRequest request,
            CancellationToken cancellation = default(CancellationToken))
        {
            return UnaryAsync(options => stub.SendRawAsync(request, options), cancellation);
        }

        /// <summary>Has every later message published to a topic.</summary>
        public Task<Empty> StartPublishAsync(
            StartPublishRequest request,
            CancellationToken cancellation = default(CancellationToken))
        {
            return UnaryAsync(options => stub.StartPublishAsync(request, options), cancellation);
        }

        /// <summary>Ends that.</summary>
        public Task<Empty> StopPublishAsync(
            StopPublishRequest request,
            CancellationToken cancellation = default(CancellationToken))
        {
            return UnaryAsync(options => stub.StopPublishAsync(request, options), cancellation);
        }

        /// <summary>Sets a tag; an empty value removes it.</summary>
        public Task<Empty> SetTagAsync(
            SetTagRequest request,
            CancellationToken cancellation = default(CancellationToken))
        {
            return UnaryAsync(options => stub.SetTagAsync(request, options), cancellation);
        }

        /// <summary>A tag.</summary>
        public Task<GetTagResponse> GetTagAsync(
            GetTagRequest request,
            CancellationToken cancellation = default(CancellationToken))
        {
            return UnaryAsync(options => stub.GetTagAsync(request, options), cancellation);
        }

        /// <summary>Replaces all tags.</summary>
        public Task<Empty> SetTagsAsync(
            SetTagsRequest request,
            CancellationToken cancellation = default(CancellationToken))
        {
            return UnaryAsync(options => stub.SetTagsAsync(request, options), cancellation);
        }

        /// <summary>All tags.</summary>
        public Task<GetTagsResponse> GetTagsAsync(
            GetTagsRequest request,
            CancellationToken cancellation = default(CancellationToken))
        {
            return UnaryAsync(options => stub.GetTagsAsync(request, options), cancellation);
        }
    }
}
