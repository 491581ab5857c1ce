using System.Threading;
using System.Threading.Tasks;
using Virtufin.Common;

namespace Virtufin.WorkManager
{
    /// <summary>The worker manager.</summary>
    public sealed class WorkManagerClient : ServiceClient
    {
        /// <summary>The worker manager's port for gRPC.</summary>
        public const int DefaultPort = 5102;

        private readonly global::Virtufin.WorkManager.WorkManager.WorkManagerClient stub;

        public WorkManagerClient(string host = "localhost", int port = DefaultPort)
            : this(new ServiceOptions(host, port))
        {
        }

        public WorkManagerClient(ServiceOptions options)
            : base(options)
        {
            stub = new global::Virtufin.WorkManager.WorkManager.WorkManagerClient(Channel);
        }

        /// <summary>Makes a worker; the answer has its id.</summary>
        public Task<CreateWorkerResponse> CreateWorkerAsync(
            CreateWorkerRequest request,
            CancellationToken cancellation = default(CancellationToken))
        {
            return UnaryAsync(options => stub.CreateWorkerAsync(request, options), cancellation);
        }

        /// <summary>The workers that carry all tags of the request.</summary>
        public Task<ListWorkersResponse> ListWorkersAsync(
            ListWorkersRequest request,
            CancellationToken cancellation = default(CancellationToken))
        {
            return UnaryAsync(options => stub.ListWorkersAsync(request, options), cancellation);
        }

        /// <summary>Removes a worker.</summary>
        public Task<Empty> DeleteWorkerAsync(
            DeleteWorkerRequest request,
            CancellationToken cancellation = default(CancellationToken))
        {
            return UnaryAsync(options => stub.DeleteWorkerAsync(request, options), cancellation);
        }

        /// <summary>Starts a worker.</summary>
        public Task<Empty> StartWorkerAsync(
            StartWorkerRequest request,
            CancellationToken cancellation = default(CancellationToken))
        {
            return UnaryAsync(options => stub.StartWorkerAsync(request, options), cancellation);
        }

        /// <summary>Stops a worker.</summary>
        public Task<Empty> StopWorkerAsync(
            StopWorkerRequest request,
            CancellationToken cancellation = default(CancellationToken))
        {
            return UnaryAsync(options => stub.StopWorkerAsync(request, options), cancellation);
        }

        /// <summary>Brings persisted workers back.</summary>
        public Task<RecoverWorkersResponse> RecoverWorkersAsync(
            RecoverWorkersRequest request,
            CancellationToken cancellation = default(CancellationToken))
        {
            return UnaryAsync(options => stub.RecoverWorkersAsync(request, options), cancellation);
        }

        /// <summary>The code that a worker has had, oldest first.</summary>
        public Task<GetWorkerHistoryResponse> GetWorkerHistoryAsync(
            GetWorkerHistoryRequest request,
            CancellationToken cancellation = default(CancellationToken))
        {
            return UnaryAsync(options => stub.GetWorkerHistoryAsync(request, options), cancellation);
        }

        /// <summary>Gives a worker new code.</summary>
        public Task<Empty> LoadCodeFromContentAsync(
            LoadCodeFromContentRequest request,
            CancellationToken cancellation = default(CancellationToken))
        {
            return UnaryAsync(options => stub.LoadCodeFromContentAsync(request, options), cancellation);
        }

        /// <summary>Gives a worker new code that the service fetches.</summary>
        public Task<Empty> LoadCodeFromUrlAsync(
            LoadCodeFromUrlRequest request,
            CancellationToken cancellation = default(CancellationToken))
        {
            return UnaryAsync(options => stub.LoadCodeFromUrlAsync(request, options), cancellation);
        }

        /// <summary>Gives a worker new code of either kind.</summary>
        public Task<Empty> LoadCodeAsync(
            LoadCodeRequest request,
            CancellationToken cancellation = default(CancellationToken))
        {
            return UnaryAsync(options => stub.LoadCodeAsync(request, options), cancellation);
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
