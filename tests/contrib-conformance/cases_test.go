package contrib

import (
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	contribbindings "github.com/dapr/components-contrib/bindings"
	contribpubsub "github.com/dapr/components-contrib/pubsub"
	pubsubinmemory "github.com/dapr/components-contrib/pubsub/in-memory"
	contribsecrets "github.com/dapr/components-contrib/secretstores"
	secretsenv "github.com/dapr/components-contrib/secretstores/local/env"
	secretsfile "github.com/dapr/components-contrib/secretstores/local/file"
	contribstate "github.com/dapr/components-contrib/state"
	stateinmemory "github.com/dapr/components-contrib/state/in-memory"
	statesqlite "github.com/dapr/components-contrib/state/sqlite"
	confbindings "github.com/dapr/components-contrib/tests/conformance/bindings"
	confpubsub "github.com/dapr/components-contrib/tests/conformance/pubsub"
	confsecrets "github.com/dapr/components-contrib/tests/conformance/secretstores"
	confstate "github.com/dapr/components-contrib/tests/conformance/state"
	"github.com/dapr/dapr/pkg/components/bindings"
	"github.com/dapr/dapr/pkg/components/pubsub"
	"github.com/dapr/dapr/pkg/components/secretstores"
	"github.com/dapr/dapr/pkg/components/state"
	"github.com/dapr/kit/logger"
)

// controlVariable asks for upstream's own component in place of ours, where this module has it.
const controlVariable = "OUTRIGGER_CONTRIB_CONTROL"

var log = logger.NewLogger("contrib-conformance")

type properties = map[string]string

// component is one type with upstream's parameters for it (tests/config/<block>/tests.yml). Operations that the
// pluggable protocol has no methods for are left out: keyslike, delete-with-prefix.
type component struct {
	kind        string
	version     string
	operations  []string
	config      map[string]any
	environment []string
	// settings makes the component's metadata; it skips the test where a server is missing.
	settings func(t *testing.T) properties
}

func none(*testing.T) properties { return properties{} }

var states = []component{
	{
		kind:       "state.in-memory",
		operations: []string{"transaction", "etag", "first-write", "ttl"},
		settings:   none,
	},
	{
		kind:       "state.sqlite",
		operations: []string{"transaction", "etag", "first-write", "ttl"},
		settings: func(t *testing.T) properties {
			return properties{"connectionString": filepath.Join(t.TempDir(), "state.db")}
		},
	},
	{
		kind:       "state.redis",
		operations: []string{"transaction", "etag", "first-write", "ttl"},
		config:     map[string]any{"badEtag": "9999999"},
		settings: func(t *testing.T) properties {
			return properties{"redisHost": required(t, "OUTRIGGER_TEST_REDIS")}
		},
	},
	{
		kind:       "state.postgresql",
		version:    "v1",
		operations: []string{"transaction", "etag", "first-write", "query", "ttl"},
		config:     map[string]any{"badEtag": "1"},
		settings: func(t *testing.T) properties {
			return properties{
				"connectionString":  required(t, "OUTRIGGER_TEST_POSTGRES"),
				"tableName":         "conf_v1_state",
				"metadataTableName": "conf_v1_metadata",
			}
		},
	},
	{
		kind:       "state.postgresql",
		version:    "v2",
		operations: []string{"transaction", "etag", "first-write", "ttl"},
		config:     map[string]any{"badEtag": "e9b9e142-74b1-4a2e-8e90-3f4ffeea2e70"},
		settings: func(t *testing.T) properties {
			return properties{
				"connectionString": required(t, "OUTRIGGER_TEST_POSTGRES"),
				"tablePrefix":      "confv2_",
			}
		},
	},
}

var brokers = []component{
	{kind: "pubsub.in-memory", settings: none},
	{
		// Ours, without a twin upstream: run with the parameters of a broker that redelivers.
		kind:   "pubsub.sqlite",
		config: map[string]any{"checkInOrderProcessing": false},
		settings: func(t *testing.T) properties {
			return properties{
				"connectionString": filepath.Join(t.TempDir(), "pubsub.db"),
				"consumerID":       "testConsumer",
			}
		},
	},
	{
		kind:   "pubsub.redis",
		config: map[string]any{"checkInOrderProcessing": false},
		settings: func(t *testing.T) properties {
			return properties{
				"redisHost":         required(t, "OUTRIGGER_TEST_REDIS"),
				"consumerID":        "testConsumer",
				"processingTimeout": "5s",
				"redeliverInterval": "1s",
				"concurrency":       "1",
			}
		},
	},
	{
		kind:   "pubsub.rabbitmq",
		config: map[string]any{"checkInOrderProcessing": false},
		settings: func(t *testing.T) properties {
			return properties{
				"host":              required(t, "OUTRIGGER_TEST_RABBITMQ"),
				"consumerID":        "testConsumer",
				"durable":           "false",
				"deletedWhenUnused": "false",
				"autoAck":           "false",
				"deliveryMode":      "0",
				"requeueInFailure":  "true",
				"prefetchCount":     "0",
				"reconnectWait":     "0",
				"concurrencyMode":   "single",
			}
		},
	},
}

var bindingTypes = []component{
	{
		kind:       "bindings.http",
		operations: []string{"create", "operations"},
		config:     map[string]any{"url": "localhost:22222", "method": "POST"},
		settings: func(*testing.T) properties {
			return properties{"url": "http://localhost:22222/call"}
		},
	},
	{
		kind:       "bindings.cron",
		operations: []string{"read"},
		settings: func(*testing.T) properties {
			return properties{"schedule": "@every 1s"}
		},
	},
}

var secretStores = []component{
	{
		kind: "secretstores.local.env",
		// The cases set these in their own process, where ours cannot see them.
		environment: []string{"conftestsecret=abcd", "secondsecret=efgh"},
		settings:    none,
	},
	{
		kind: "secretstores.local.file",
		settings: func(t *testing.T) properties {
			file := filepath.Join(t.TempDir(), "secrets.json")
			require.NoError(t, os.WriteFile(file, []byte(`{"conftestsecret":"abcd","secondsecret":"efgh"}`), 0o600))
			return properties{"secretsFile": file, "nestedSeparator": ":"}
		},
	},
	{
		kind: "secretstores.hashicorp.vault",
		settings: func(t *testing.T) properties {
			address := required(t, "OUTRIGGER_TEST_VAULT")
			seedVault(t, address)
			return properties{
				"vaultAddr":     address,
				"vaultToken":    "root",
				"skipVerify":    "true",
				"vaultKVPrefix": "dapr",
			}
		},
	},
}

// each runs the types of a block; the name of a case begins with the type.
func each(t *testing.T, components []component, run func(t *testing.T, c component)) {
	for _, c := range components {
		name := c.kind
		if c.version != "" {
			name += "." + c.version
		}
		t.Run(name, func(t *testing.T) { run(t, c) })
	}
}

// control gives upstream's own component where the control was asked for.
func control[T any](t *testing.T, kind string, own map[string]func(logger.Logger) T) (T, bool) {
	t.Helper()
	var nothing T
	if os.Getenv(controlVariable) == "" {
		return nothing, false
	}
	make, ok := own[kind]
	if !ok {
		t.Skipf("skipped: no control for %s", kind)
	}
	return make(log), true
}

func TestState(t *testing.T) {
	each(t, states, func(t *testing.T, c component) {
		settings := c.settings(t)
		config, err := confstate.NewTestConfig(strings.TrimPrefix(c.kind, "state."), c.operations, c.config)
		require.NoError(t, err)
		store, ok := control(t, c.kind, map[string]func(logger.Logger) contribstate.Store{
			"state.in-memory": stateinmemory.NewInMemoryStateStore,
			"state.sqlite":    statesqlite.NewSQLiteStateStore,
		})
		if !ok {
			store = oneByOne{state.NewGRPCStateStore(log, serve(t, c.kind, c.version).socket)}
		}
		confstate.ConformanceTests(t, settings, store, config)
	})
}

func TestPubSub(t *testing.T) {
	each(t, brokers, func(t *testing.T, c component) {
		settings := c.settings(t)
		config := map[string]any{}
		for name, value := range c.config {
			config[name] = value
		}
		// A run of its own topics: brokers keep what an earlier run left.
		run := uuid.NewString()
		for _, topic := range []string{"testTopicName", "testMultiTopic1Name", "testMultiTopic2Name"} {
			config[topic] = topic + "-" + run
		}
		cases, err := confpubsub.NewTestConfig(strings.TrimPrefix(c.kind, "pubsub."), c.operations, config)
		require.NoError(t, err)
		broker, ok := control(t, c.kind, map[string]func(logger.Logger) contribpubsub.PubSub{
			"pubsub.in-memory": pubsubinmemory.New,
		})
		if !ok {
			broker = pubsub.NewGRPCPubSub(log, serve(t, c.kind, c.version).socket)
		}
		confpubsub.ConformanceTests(t, settings, broker, cases)
	})
}

func TestBindings(t *testing.T) {
	each(t, bindingTypes, func(t *testing.T, c component) {
		if os.Getenv(controlVariable) != "" {
			t.Skipf("skipped: no control for %s", c.kind)
		}
		settings := c.settings(t)
		config, err := confbindings.NewTestConfig(strings.TrimPrefix(c.kind, "bindings."), c.operations, c.config)
		require.NoError(t, err)
		socket := serve(t, c.kind, c.version).socket
		var input contribbindings.InputBinding
		var output contribbindings.OutputBinding
		for _, operation := range c.operations {
			if operation == "read" {
				input = newEndedByClose(bindings.NewGRPCInputBinding(log, socket))
			} else {
				output = bindings.NewGRPCOutputBinding(log, socket)
			}
		}
		confbindings.ConformanceTests(t, settings, input, output, config)
	})
}

func TestSecretStores(t *testing.T) {
	each(t, secretStores, func(t *testing.T, c component) {
		settings := c.settings(t)
		config := confsecrets.NewTestConfig(strings.TrimPrefix(c.kind, "secretstores."), c.operations)
		store, ok := control(t, c.kind, map[string]func(logger.Logger) contribsecrets.SecretStore{
			"secretstores.local.env":  secretsenv.NewEnvSecretStore,
			"secretstores.local.file": secretsfile.NewLocalSecretStore,
		})
		if !ok {
			store = secretstores.NewGRPCSecretStore(log, serve(t, c.kind, c.version, c.environment...).socket)
		}
		confsecrets.ConformanceTests(t, settings, store, config)
	})
}

// seedVault puts the secrets of the cases where upstream's test container has them.
func seedVault(t *testing.T, address string) {
	t.Helper()
	for name, value := range map[string]string{"conftestsecret": "abcd", "secondsecret": "efgh"} {
		target, err := url.JoinPath(address, "v1/secret/data/dapr", name)
		require.NoError(t, err)
		putJSON(t, target, `{"data":{"`+name+`":"`+value+`"}}`)
	}
}
