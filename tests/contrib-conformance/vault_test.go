package contrib

import (
	"net/http"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// putJSON writes to a development Vault, whose token is `root`.
func putJSON(t *testing.T, target, body string) {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), http.MethodPost, target, strings.NewReader(body))
	require.NoError(t, err)
	request.Header.Set("X-Vault-Token", "root")
	answer, err := http.DefaultClient.Do(request)
	require.NoError(t, err)
	_ = answer.Body.Close()
	require.Less(t, answer.StatusCode, 300, "%s", target)
}
