using System;
using System.Collections.Generic;
using System.Linq;
using Google.Rpc;
using Grpc.Core;

namespace Virtufin.Common
{
    /// <summary>A call that failed: the gRPC status, with the details that services send along.</summary>
    public class ServiceException : Exception
    {
        public ServiceException(
            StatusCode code,
            string message,
            ErrorInfo info = null,
            BadRequest request = null,
            Exception cause = null)
            : base(message, cause)
        {
            Code = code;
            Reason = info?.Reason;
            Domain = info?.Domain;
            Metadata = info == null ? new Dictionary<string, string>() : new Dictionary<string, string>(info.Metadata);
            Violations = request == null
                ? new List<KeyValuePair<string, string>>()
                : request.FieldViolations
                    .Select(violation => new KeyValuePair<string, string>(violation.Field, violation.Description))
                    .ToList();
        }

        /// <summary>The gRPC status.</summary>
        public StatusCode Code { get; }

        /// <summary>For programs: the reason of <c>google.rpc.ErrorInfo</c>, such as <c>NOT_OWNER</c>.</summary>
        public string Reason { get; }

        /// <summary>Whose reason it is.</summary>
        public string Domain { get; }

        /// <summary>What belongs to the reason.</summary>
        public IReadOnlyDictionary<string, string> Metadata { get; }

        /// <summary>Fields of the request that are wrong, and what is wrong with them.</summary>
        public IReadOnlyList<KeyValuePair<string, string>> Violations { get; }

        /// <summary>The exception of a call that failed.</summary>
        public static ServiceException Of(RpcException error)
        {
            ErrorInfo info = null;
            BadRequest request = null;
            var bytes = error.Trailers.GetValueBytes("grpc-status-details-bin");
            if (bytes != null)
            {
                try
                {
                    foreach (var detail in Google.Rpc.Status.Parser.ParseFrom(bytes).Details)
                    {
                        if (detail.Is(ErrorInfo.Descriptor))
                        {
                            info = detail.Unpack<ErrorInfo>();
                        }
                        else if (detail.Is(BadRequest.Descriptor))
                        {
                            request = detail.Unpack<BadRequest>();
                        }
                    }
                }
                catch (Google.Protobuf.InvalidProtocolBufferException)
                {
                    // The status itself still says what happened.
                }
            }
            if (error.StatusCode == StatusCode.FailedPrecondition && info?.Reason == "API_VERSION_MISMATCH")
            {
                return new ApiVersionMismatchException(error.Status.Detail, info, error);
            }
            return new ServiceException(error.StatusCode, error.Status.Detail, info, request, error);
        }

        /// <summary>The exception of a status's name (<c>NOT_FOUND</c>), as it stands in answers that are no status.</summary>
        public static ServiceException OfName(string name, string message)
        {
            StatusCode code;
            var known = Enum.TryParse((name ?? string.Empty).Replace("_", string.Empty), true, out code);
            return new ServiceException(known ? code : StatusCode.Unknown, message);
        }
    }

    /// <summary>Service and client speak different versions of the contract; one of them has to be replaced.</summary>
    public sealed class ApiVersionMismatchException : ServiceException
    {
        public ApiVersionMismatchException(string message, ErrorInfo info, Exception cause)
            : base(StatusCode.FailedPrecondition, "API version mismatch: " + message, info, null, cause)
        {
        }
    }

    /// <summary>No event with the correlation id arrived in time.</summary>
    public sealed class NoReplyException : TimeoutException
    {
        public NoReplyException(string topic, string correlationId, TimeSpan waited)
            : base("no reply on topic " + topic + " to correlation id " + correlationId + " within " + waited)
        {
            Topic = topic;
            CorrelationId = correlationId;
        }

        public string Topic { get; }

        public string CorrelationId { get; }
    }
}
