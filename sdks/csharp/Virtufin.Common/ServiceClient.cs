using System;
using System.Threading;
using System.Threading.Tasks;
using Grpc.Core;
using Grpc.Net.Client;

namespace Virtufin.Common
{
    /// <summary>What the clients have in common. It connects at its first call.</summary>
    public abstract class ServiceClient : IDisposable
    {
        private readonly ServiceOptions options;
        private readonly GrpcChannel channel;

        protected ServiceClient(ServiceOptions options)
        {
            this.options = options;
            channel = GrpcChannel.ForAddress(options.Address);
        }

        /// <summary>The connection, for stubs of one's own.</summary>
        public ChannelBase Channel
        {
            get { return channel; }
        }

        public void Dispose()
        {
            channel.Dispose();
        }

        /// <summary>An answer that carries a status instead of being one; none says that it went well.</summary>
        protected static void Acknowledge(StatusResponse status)
        {
            if (status != null && !status.Success)
            {
                throw ServiceException.OfName(status.Status, status.Message);
            }
        }

        /// <summary>Calls a unary method; <paramref name="patience"/> is how long the service itself may let it take.</summary>
        protected async Task<T> UnaryAsync<T>(
            Func<CallOptions, AsyncUnaryCall<T>> call,
            CancellationToken cancellation,
            TimeSpan patience = default(TimeSpan))
        {
            try
            {
                using (var running = call(Stamped(cancellation).WithDeadline(DateTime.UtcNow + options.Timeout + patience)))
                {
                    return await running.ResponseAsync.ConfigureAwait(false);
                }
            }
            catch (RpcException error)
            {
                throw ServiceException.Of(error);
            }
        }

        /// <summary>Calls a streaming method; returns when the service has taken it.</summary>
        protected async Task<Subscription<T>> StreamAsync<T>(
            Func<CallOptions, AsyncServerStreamingCall<T>> call,
            CancellationToken cancellation)
        {
            var running = call(Stamped(cancellation));
            try
            {
                await running.ResponseHeadersAsync.ConfigureAwait(false);
                return new Subscription<T>(running);
            }
            catch (RpcException error)
            {
                running.Dispose();
                throw ServiceException.Of(error);
            }
        }

        private CallOptions Stamped(CancellationToken cancellation)
        {
            var headers = new Metadata { { ServiceOptions.ApiVersionHeader, ServiceOptions.ApiVersion } };
            foreach (var entry in options.Metadata)
            {
                headers.Add(entry.Key, entry.Value);
            }
            return new CallOptions(headers, null, cancellation);
        }
    }

    /// <summary>Events as they come; disposing it ends it.</summary>
    public sealed class Subscription<T> : IDisposable
    {
        private readonly AsyncServerStreamingCall<T> call;

        internal Subscription(AsyncServerStreamingCall<T> call)
        {
            this.call = call;
        }

        /// <summary>The event that <see cref="NextAsync"/> has found.</summary>
        public T Current
        {
            get { return call.ResponseStream.Current; }
        }

        /// <summary>Waits for the next event; false when the service has ended the stream.</summary>
        public async Task<bool> NextAsync(CancellationToken cancellation = default(CancellationToken))
        {
            try
            {
                return await call.ResponseStream.MoveNext(cancellation).ConfigureAwait(false);
            }
            catch (RpcException error)
            {
                throw ServiceException.Of(error);
            }
        }

        public void Dispose()
        {
            call.Dispose();
        }
    }
}
