package contrib

import (
	"context"

	"github.com/lestrrat-go/jwx/v2/jwk"

	contribcrypto "github.com/dapr/components-contrib/crypto"
	contribmetadata "github.com/dapr/components-contrib/metadata"
	runtimev1 "github.com/dapr/dapr/pkg/proto/runtime/v1"
)

// cryptoProvider is the provider behind a sidecar's API. What a component says it supports is not in the API: that
// one case is answered by upstream's list of the algorithms of local keys, and the operations show what is true.
type cryptoProvider struct {
	sidecar
	contribcrypto.LocalCryptoBaseComponent
}

func (p *cryptoProvider) Init(ctx context.Context, metadata contribcrypto.Metadata) error {
	return p.start(ctx, metadata.Properties)
}

func (p *cryptoProvider) GetKey(ctx context.Context, keyName string) (jwk.Key, error) {
	answer, err := p.client.SubtleGetKeyAlpha1(ctx, &runtimev1.SubtleGetKeyRequest{
		ComponentName: componentName,
		Name:          keyName,
		Format:        runtimev1.SubtleGetKeyRequest_JSON,
	})
	if err != nil {
		return nil, err
	}
	return jwk.ParseKey([]byte(answer.GetPublicKey()))
}

func (p *cryptoProvider) Encrypt(ctx context.Context, plaintext []byte, algorithm, keyName string, nonce, associatedData []byte) ([]byte, []byte, error) {
	answer, err := p.client.SubtleEncryptAlpha1(ctx, &runtimev1.SubtleEncryptRequest{
		ComponentName:  componentName,
		Plaintext:      plaintext,
		Algorithm:      algorithm,
		KeyName:        keyName,
		Nonce:          nonce,
		AssociatedData: associatedData,
	})
	return answer.GetCiphertext(), answer.GetTag(), err
}

func (p *cryptoProvider) Decrypt(ctx context.Context, ciphertext []byte, algorithm, keyName string, nonce, tag, associatedData []byte) ([]byte, error) {
	answer, err := p.client.SubtleDecryptAlpha1(ctx, &runtimev1.SubtleDecryptRequest{
		ComponentName:  componentName,
		Ciphertext:     ciphertext,
		Algorithm:      algorithm,
		KeyName:        keyName,
		Nonce:          nonce,
		Tag:            tag,
		AssociatedData: associatedData,
	})
	return answer.GetPlaintext(), err
}

func (p *cryptoProvider) WrapKey(ctx context.Context, plaintextKey jwk.Key, algorithm, keyName string, nonce, associatedData []byte) ([]byte, []byte, error) {
	var plaintext []byte
	if err := plaintextKey.Raw(&plaintext); err != nil {
		return nil, nil, err
	}
	answer, err := p.client.SubtleWrapKeyAlpha1(ctx, &runtimev1.SubtleWrapKeyRequest{
		ComponentName:  componentName,
		PlaintextKey:   plaintext,
		Algorithm:      algorithm,
		KeyName:        keyName,
		Nonce:          nonce,
		AssociatedData: associatedData,
	})
	return answer.GetWrappedKey(), answer.GetTag(), err
}

func (p *cryptoProvider) UnwrapKey(ctx context.Context, wrappedKey []byte, algorithm, keyName string, nonce, tag, associatedData []byte) (jwk.Key, error) {
	answer, err := p.client.SubtleUnwrapKeyAlpha1(ctx, &runtimev1.SubtleUnwrapKeyRequest{
		ComponentName:  componentName,
		WrappedKey:     wrappedKey,
		Algorithm:      algorithm,
		KeyName:        keyName,
		Nonce:          nonce,
		Tag:            tag,
		AssociatedData: associatedData,
	})
	if err != nil {
		return nil, err
	}
	return jwk.FromRaw(answer.GetPlaintextKey())
}

func (p *cryptoProvider) Sign(ctx context.Context, digest []byte, algorithm, keyName string) ([]byte, error) {
	answer, err := p.client.SubtleSignAlpha1(ctx, &runtimev1.SubtleSignRequest{
		ComponentName: componentName,
		Digest:        digest,
		Algorithm:     algorithm,
		KeyName:       keyName,
	})
	return answer.GetSignature(), err
}

func (p *cryptoProvider) Verify(ctx context.Context, digest, signature []byte, algorithm, keyName string) (bool, error) {
	answer, err := p.client.SubtleVerifyAlpha1(ctx, &runtimev1.SubtleVerifyRequest{
		ComponentName: componentName,
		Digest:        digest,
		Algorithm:     algorithm,
		KeyName:       keyName,
		Signature:     signature,
	})
	return answer.GetValid(), err
}

func (*cryptoProvider) GetComponentMetadata() contribmetadata.MetadataMap { return nil }

// Close has nothing to do: the sidecar ends with the test.
func (*cryptoProvider) Close() error { return nil }
