package contrib

import (
	"fmt"
	"io"
	"net"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	contribconfiguration "github.com/dapr/components-contrib/configuration"
	postgresconfiguration "github.com/dapr/components-contrib/configuration/postgres"
	redisconfiguration "github.com/dapr/components-contrib/configuration/redis"
	contribcrypto "github.com/dapr/components-contrib/crypto"
	jwkscrypto "github.com/dapr/components-contrib/crypto/jwks"
	localcrypto "github.com/dapr/components-contrib/crypto/localstorage"
	contriblock "github.com/dapr/components-contrib/lock"
	redislock "github.com/dapr/components-contrib/lock/redis"
	confconfiguration "github.com/dapr/components-contrib/tests/conformance/configuration"
	confcrypto "github.com/dapr/components-contrib/tests/conformance/crypto"
	conflock "github.com/dapr/components-contrib/tests/conformance/lock"
	"github.com/dapr/components-contrib/tests/utils/configupdater"
	postgresupdater "github.com/dapr/components-contrib/tests/utils/configupdater/postgres"
	redisupdater "github.com/dapr/components-contrib/tests/utils/configupdater/redis"
	"github.com/dapr/kit/logger"
)

var locks = []component{
	{
		// Ours, without a twin upstream.
		kind: "lock.sqlite",
		settings: func(t *testing.T) properties {
			return properties{"connectionString": filepath.Join(t.TempDir(), "locks.db")}
		},
	},
	{
		kind: "lock.redis",
		settings: func(t *testing.T) properties {
			return properties{"redisHost": required(t, "OUTRIGGER_TEST_REDIS")}
		},
	},
}

var configurations = []component{
	{
		kind: "configuration.redis",
		settings: func(t *testing.T) properties {
			// A database of its own, empty: one case reads all keys there are.
			address := required(t, "OUTRIGGER_TEST_REDIS")
			emptyRedis(t, address, "11")
			return properties{"redisHost": address, "redisDB": "11"}
		},
	},
	{
		kind: "configuration.postgresql",
		settings: func(t *testing.T) properties {
			return properties{
				"connectionString": required(t, "OUTRIGGER_TEST_POSTGRES"),
				"table":            "configtable",
				"notifyChannel":    "config",
			}
		},
	},
}

// rsaAlgorithms are those that upstream's parameters have for private RSA keys.
var rsaAlgorithms = []string{
	"PS256", "PS384", "PS512", "RS256", "RS384", "RS512", "RSA1_5",
	"RSA-OAEP", "RSA-OAEP-256", "RSA-OAEP-384", "RSA-OAEP-512",
}

var symmetricAlgorithms = []string{
	"A256CBC", "A256GCM", "A256KW", "C20P", "XC20P", "C20PKW", "XC20PKW", "A128CBC-HS256",
}

func key(kind, name string, algorithms ...string) map[string]any {
	return map[string]any{"type": kind, "name": name, "algorithms": algorithms}
}

var cryptoProviders = []component{
	{
		kind:       "crypto.dapr.localstorage",
		operations: []string{"public", "symmetric"},
		config: map[string]any{"keys": []any{
			key("public", "ed25519-public.pem", "EdDSA"),
			key("private", "ed25519-private.pem", "EdDSA"),
			key("public", "p256-public.json", "ES256"),
			key("private", "p256-private.json", "ES256"),
			key("public", "rsa-public.json", "RSA-OAEP"),
			key("private", "rsa-private.pem", rsaAlgorithms...),
			key("symmetric", "symmetric-256.b64", symmetricAlgorithms...),
		}},
		settings: func(t *testing.T) properties {
			return properties{"path": fixture(t, "crypto/localstorage")}
		},
	},
	{
		kind:       "crypto.dapr.jwks",
		operations: []string{"public", "symmetric"},
		config: map[string]any{"keys": []any{
			key("public", "ed25519-public", "EdDSA"),
			key("private", "ed25519-private", "EdDSA"),
			key("public", "p256-public", "ES256"),
			key("private", "p256-private", "ES256"),
			key("public", "rsa-public", "PS256", "RS256", "RSA1_5", "RSA-OAEP", "RSA-OAEP-256"),
			key("private", "rsa-private", rsaAlgorithms...),
			key("symmetric", "symmetric-256", symmetricAlgorithms...),
		}},
		settings: func(t *testing.T) properties {
			return properties{"jwks": fixture(t, "crypto/jwks/jwks.json")}
		},
	},
}

// emptyRedis removes what an earlier run left in a database.
func emptyRedis(t *testing.T, address, database string) {
	t.Helper()
	connection, err := net.Dial("tcp", address)
	require.NoError(t, err)
	defer connection.Close()
	_, err = fmt.Fprintf(connection, "SELECT %s\r\nFLUSHDB\r\nQUIT\r\n", database)
	require.NoError(t, err)
	answer, err := io.ReadAll(connection)
	require.NoError(t, err)
	require.Equal(t, "+OK\r\n+OK\r\n+OK\r\n", string(answer))
}

// fixture is the path of a file that upstream's cases bring along.
func fixture(t *testing.T, name string) string {
	t.Helper()
	module, err := exec.Command("go", "list", "-m", "-f", "{{.Dir}}", "github.com/dapr/components-contrib").Output()
	require.NoError(t, err)
	return filepath.Join(strings.TrimSpace(string(module)), "tests", "conformance", "fixtures", name)
}

func TestLock(t *testing.T) {
	each(t, locks, func(t *testing.T, c component) {
		settings := c.settings(t)
		config, err := conflock.NewTestConfig(strings.TrimPrefix(c.kind, "lock."), c.operations, c.config)
		require.NoError(t, err)
		store, ok := control(t, c, map[string]func(logger.Logger) contriblock.Store{
			"lock.redis": redislock.NewStandaloneRedisLock,
		})
		if !ok {
			store = &lockStore{sidecar{t: t, kind: c.kind, version: "v1"}}
		}
		conflock.ConformanceTests(t, settings, store, config)
	})
}

func TestConfiguration(t *testing.T) {
	abreast(t, configurations, func(t *testing.T, c component) {
		settings := c.settings(t)
		name := strings.TrimPrefix(c.kind, "configuration.")
		updater := map[string]func(logger.Logger) configupdater.Updater{
			"redis":      redisupdater.NewRedisConfigUpdater,
			"postgresql": postgresupdater.NewPostgresConfigUpdater,
		}[name](log)
		store, ok := control(t, c, map[string]func(logger.Logger) contribconfiguration.Store{
			"configuration.redis":      redisconfiguration.NewRedisConfigurationStore,
			"configuration.postgresql": postgresconfiguration.NewPostgresConfigurationStore,
		})
		if ok {
			store = outliving{store, t.Context()}
		} else {
			store = &configurationStore{sidecar{t: t, kind: c.kind, version: "v1"}}
		}
		confconfiguration.ConformanceTests(t, settings, store, updater, confconfiguration.NewTestConfig(name, c.operations, c.config), name)
	})
}

func TestCrypto(t *testing.T) {
	each(t, cryptoProviders, func(t *testing.T, c component) {
		settings := c.settings(t)
		config, err := confcrypto.NewTestConfig(strings.TrimPrefix(c.kind, "crypto.dapr."), c.operations, c.config)
		require.NoError(t, err)
		provider, ok := control(t, c, map[string]func(logger.Logger) contribcrypto.SubtleCrypto{
			"crypto.dapr.localstorage": localcrypto.NewLocalStorageCrypto,
			"crypto.dapr.jwks":         jwkscrypto.NewJWKSCrypto,
		})
		if !ok {
			provider = &cryptoProvider{sidecar: sidecar{t: t, kind: c.kind, version: "v1"}}
		}
		confcrypto.ConformanceTests(t, settings, provider, config)
	})
}
