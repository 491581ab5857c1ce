using System;
using System.Collections.Generic;

namespace Virtufin.Common
{
    /// <summary>Where a service is and how it is called.</summary>
    public sealed class ServiceOptions
    {
        /// <summary>The version of the contract that these packages speak.</summary>
        public const string ApiVersion = "1.0.0";

        /// <summary>The metadata key that carries it.</summary>
        public const string ApiVersionHeader = "x-api-version";

        public ServiceOptions(string host, int port)
        {
            Host = host;
            Port = port;
        }

        /// <summary>A name or an address.</summary>
        public string Host { get; }

        /// <summary>The port for gRPC.</summary>
        public int Port { get; }

        /// <summary>How long a unary call may take; streams have no limit.</summary>
        public TimeSpan Timeout { get; set; } = TimeSpan.FromSeconds(30);

        /// <summary>Over TLS.</summary>
        public bool Secure { get; set; }

        /// <summary>What every call carries beside the version, such as <c>dapr-app-id</c>.</summary>
        public IDictionary<string, string> Metadata { get; } = new Dictionary<string, string>();

        /// <summary>Host and port as a URL, an IPv6 address in brackets.</summary>
        public string Address
        {
            get
            {
                var host = Host.Contains(":") && !Host.StartsWith("[", StringComparison.Ordinal) ? "[" + Host + "]" : Host;
                return (Secure ? "https://" : "http://") + host + ":" + Port;
            }
        }
    }
}
