package contrib

import (
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	contribbindings "github.com/dapr/components-contrib/bindings"
	bindingscron "github.com/dapr/components-contrib/bindings/cron"
	bindingshttp "github.com/dapr/components-contrib/bindings/http"
	bindingslocal "github.com/dapr/components-contrib/bindings/localstorage"
	bindingsredis "github.com/dapr/components-contrib/bindings/redis"
	contribpubsub "github.com/dapr/components-contrib/pubsub"
	pubsubinmemory "github.com/dapr/components-contrib/pubsub/in-memory"
	pubsubrabbitmq "github.com/dapr/components-contrib/pubsub/rabbitmq"
	pubsubredis "github.com/dapr/components-contrib/pubsub/redis"
	contribsecrets "github.com/dapr/components-contrib/secretstores"
	secretsvault "github.com/dapr/components-contrib/secretstores/hashicorp/vault"
	secretsenv "github.com/dapr/components-contrib/secretstores/local/env"
	secretsfile "github.com/dapr/components-contrib/secretstores/local/file"
	contribstate "github.com/dapr/components-contrib/state"
	stateinmemory "github.com/dapr/components-contrib/state/in-memory"
	statepostgresv1 "github.com/dapr/components-contrib/state/postgresql/v1"
	statepostgresv2 "github.com/dapr/components-contrib/state/postgresql/v2"
	stateredis "github.com/dapr/components-contrib/state/redis"
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

// component is one type with upstream's parameters for it (tests/config/<block>/tests.yml).
type component struct {
	kind       string
	version    string
	operations []string
	// direct are operations that the pluggable protocol has no methods for: only the control has them.
	direct      []string
	config      map[string]any
	environment []string
	// settings makes the component's metadata; it skips the test where a server is missing.
	settings func(t *testing.T) properties
}

// name is the type's, with its version where there are several.
func (c component) name() string {
	if c.version == "" {
		return c.kind
	}
	return c.kind + "." + c.version
}

func none(*testing.T) properties { return properties{} }

var states = []component{
	{
		kind:       "state.in-memory",
		operations: []string{"transaction", "etag", "first-write", "ttl", "actorStateStore"},
		direct:     []string{"keyslike", "delete-with-prefix"},
		settings:   none,
	},
	{
		kind:       "state.sqlite",
		operations: []string{"transaction", "etag", "first-write", "ttl", "actorStateStore"},
		direct:     []string{"keyslike"},
		settings: func(t *testing.T) properties {
			return properties{"connectionString": filepath.Join(t.TempDir(), "state.db")}
		},
	},
	{
		kind:       "state.redis",
		operations: []string{"transaction", "etag", "first-write", "ttl", "actorStateStore"},
		direct:     []string{"keyslike"},
		config:     map[string]any{"badEtag": "9999999"},
		settings: func(t *testing.T) properties {
			return properties{"redisHost": required(t, "OUTRIGGER_TEST_REDIS")}
		},
	},
	{
		kind:       "state.postgresql",
		version:    "v1",
		operations: []string{"transaction", "etag", "first-write", "query", "ttl", "actorStateStore"},
		direct:     []string{"keyslike"},
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
		operations: []string{"transaction", "etag", "first-write", "ttl", "actorStateStore"},
		direct:     []string{"keyslike"},
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

// httpPort is where the cases of bindings.http have their server; they hang when somebody else has it.
var httpPort = freePort()

var bindingTypes = []component{
	{
		kind:       "bindings.http",
		operations: []string{"create", "operations"},
		config:     map[string]any{"url": "localhost:" + httpPort, "method": "POST"},
		settings: func(*testing.T) properties {
			return properties{"url": "http://localhost:" + httpPort + "/call"}
		},
	},
	{
		kind:       "bindings.redis",
		operations: []string{"create", "operations"},
		config:     map[string]any{"output": map[string]any{"key": uuid.NewString()}},
		settings: func(t *testing.T) properties {
			return properties{"redisHost": required(t, "OUTRIGGER_TEST_REDIS")}
		},
	},
	{
		// Upstream has the type and no parameters for it: those of a store of files.
		kind:       "bindings.localstorage",
		operations: []string{"create", "operations", "get"},
		config:     map[string]any{"output": map[string]any{"fileName": "conformance"}},
		settings: func(t *testing.T) properties {
			return properties{"rootPath": t.TempDir()}
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

// each runs the types of a block one after the other; the name of a case begins with the type.
func each(t *testing.T, components []component, run func(t *testing.T, c component)) {
	for _, c := range components {
		t.Run(c.name(), func(t *testing.T) { run(t, c) })
	}
}

// abreast runs the types of a block side by side, also with other blocks': their cases wait most of the time.
func abreast(t *testing.T, components []component, run func(t *testing.T, c component)) {
	t.Parallel()
	each(t, components, func(t *testing.T, c component) {
		t.Parallel()
		run(t, c)
	})
}

// control gives upstream's own component where the control was asked for.
func control[T any](t *testing.T, c component, upstream map[string]func(logger.Logger) T) (T, bool) {
	t.Helper()
	var nothing T
	if os.Getenv(controlVariable) == "" {
		return nothing, false
	}
	make, ok := upstream[c.name()]
	if !ok {
		t.Skipf("skipped: no control for %s", c.name())
	}
	return make(log), true
}

func TestState(t *testing.T) {
	each(t, states, func(t *testing.T, c component) {
		settings := c.settings(t)
		store, ok := control(t, c, map[string]func(logger.Logger) contribstate.Store{
			"state.in-memory":     stateinmemory.NewInMemoryStateStore,
			"state.sqlite":        statesqlite.NewSQLiteStateStore,
			"state.redis":         stateredis.NewRedisStateStore,
			"state.postgresql.v1": statepostgresv1.NewPostgreSQLStateStore,
			"state.postgresql.v2": statepostgresv2.NewPostgreSQLStateStore,
		})
		if !ok {
			store = errorPerKey{state.NewGRPCStateStore(log, serve(t, c.kind, c.version))}
		}
		operations := c.operations
		if ok {
			operations = slices.Concat(operations, c.direct)
		}
		config, err := confstate.NewTestConfig(strings.TrimPrefix(c.kind, "state."), operations, c.config)
		require.NoError(t, err)
		confstate.ConformanceTests(t, settings, store, config)
	})
}

func TestPubSub(t *testing.T) {
	abreast(t, brokers, func(t *testing.T, c component) {
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
		broker, ok := control(t, c, map[string]func(logger.Logger) contribpubsub.PubSub{
			"pubsub.in-memory": pubsubinmemory.New,
			"pubsub.redis":     pubsubredis.NewRedisStreams,
			"pubsub.rabbitmq":  pubsubrabbitmq.NewRabbitMQ,
		})
		if !ok {
			broker = pubsub.NewGRPCPubSub(log, serve(t, c.kind, c.version))
		}
		confpubsub.ConformanceTests(t, settings, broker, cases)
	})
}

func TestBindings(t *testing.T) {
	each(t, bindingTypes, func(t *testing.T, c component) {
		settings := c.settings(t)
		config, err := confbindings.NewTestConfig(strings.TrimPrefix(c.kind, "bindings."), c.operations, c.config)
		require.NoError(t, err)
		var input contribbindings.InputBinding
		var output contribbindings.OutputBinding
		if slices.Contains(c.operations, "read") {
			upstream, ok := control(t, c, map[string]func(logger.Logger) contribbindings.InputBinding{
				"bindings.cron": bindingscron.NewCron,
			})
			if !ok {
				upstream = newEndedByClose(bindings.NewGRPCInputBinding(log, serve(t, c.kind, c.version)))
			}
			input = upstream
		} else {
			upstream, ok := control(t, c, map[string]func(logger.Logger) contribbindings.OutputBinding{
				"bindings.http":         bindingshttp.NewHTTP,
				"bindings.redis":        bindingsredis.NewRedis,
				"bindings.localstorage": bindingslocal.NewLocalStorage,
			})
			if !ok {
				upstream = bindings.NewGRPCOutputBinding(log, serve(t, c.kind, c.version))
			}
			output = upstream
		}
		confbindings.ConformanceTests(t, settings, input, output, config)
	})
}

func TestSecretStores(t *testing.T) {
	each(t, secretStores, func(t *testing.T, c component) {
		settings := c.settings(t)
		config := confsecrets.NewTestConfig(strings.TrimPrefix(c.kind, "secretstores."), c.operations)
		store, ok := control(t, c, map[string]func(logger.Logger) contribsecrets.SecretStore{
			"secretstores.local.env":       secretsenv.NewEnvSecretStore,
			"secretstores.local.file":      secretsfile.NewLocalSecretStore,
			"secretstores.hashicorp.vault": secretsvault.NewHashiCorpVaultSecretStore,
		})
		if !ok {
			store = secretstores.NewGRPCSecretStore(log, serve(t, c.kind, c.version, c.environment...))
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
