package broker_test

import (
	"context"
	"crypto/hmac"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"
	"github.com/Azure/azure-sdk-for-go/sdk/messaging/azservicebus"
	"github.com/go-jose/go-jose/v4"

	"jmlbridge/e2e/servicebus/broker"
)

// Each side can do its own part only.
func TestRights(t *testing.T) {
	b := start(t, broker.Config{Queues: []broker.Queue{{Name: "jml"}, {Name: "other"}},
		Rules: append(broker.DefaultRules(), broker.Rule{Name: "one", Rights: broker.Send | broker.Listen, Entity: "jml"})})
	_, err := receiver(t, client(t, b, "sender"), "jml", nil).ReceiveMessages(limited(t), 1, nil)
	code(t, err, azservicebus.CodeUnauthorizedAccess)
	_, err = receiver(t, client(t, b, "sender"), "jml", nil).PeekMessages(limited(t), 1, nil)
	code(t, err, azservicebus.CodeUnauthorizedAccess)
	m := &azservicebus.Message{Body: []byte("x")}
	code(t, sender(t, client(t, b, "listener"), "jml").SendMessage(limited(t), m, nil), azservicebus.CodeUnauthorizedAccess)
	_, err = sender(t, client(t, b, "listener"), "jml").ScheduleMessages(limited(t), []*azservicebus.Message{m}, time.Now(), nil)
	code(t, err, azservicebus.CodeUnauthorizedAccess)
	both := client(t, b, "manager")
	ok(t, sender(t, both, "jml").SendMessage(limited(t), m, nil))
	receive(t, receiver(t, both, "jml", nil), 1)
	ok(t, sender(t, both, "other").SendMessage(limited(t), m, nil))
	ok(t, sender(t, client(t, b, "one"), "jml").SendMessage(limited(t), m, nil))
}

// sas makes a shared access signature by hand.
func sas(key, scope, rule string, until time.Time) string {
	sr, se := strings.ToLower(url.QueryEscape(scope)), fmt.Sprint(until.Unix())
	mac := hmac.New(sha256.New, []byte(key))
	mac.Write([]byte(sr + "\n" + se))
	return fmt.Sprintf("SharedAccessSignature sr=%s&sig=%s&se=%s&skn=%s", sr, url.QueryEscape(base64.StdEncoding.EncodeToString(mac.Sum(nil))), se, rule)
}

func TestSignatures(t *testing.T) {
	const key = "a key that is known here"
	b := start(t, broker.Config{Rules: []broker.Rule{{Name: "send", Key: key, Rights: broker.Send}, {Name: "elsewhere", Key: key, Rights: broker.Send, Entity: "other"}}})
	namespace := "amqps://" + b.Host() + "/"
	hour := time.Now().Add(time.Hour)
	for _, tt := range []struct {
		name, token string
		good        bool
	}{
		{"for the entity", sas(key, namespace+"jml", "send", hour), true},
		{"for the namespace", sas(key, namespace, "send", hour), true},
		{"for the namespace by name", sas(key, b.Host(), "send", hour), true},
		{"of the sb scheme", sas(key, "sb://"+b.Host()+"/jml", "send", hour), true},
		{"for another entity", sas(key, namespace+"other", "send", hour), false},
		{"for a longer name", sas(key, namespace+"jm", "send", hour), false},
		{"for another namespace", sas(key, "amqps://elsewhere.example/jml", "send", hour), false},
		{"of a rule of another entity", sas(key, namespace+"jml", "elsewhere", hour), false},
		{"of an unknown rule", sas(key, namespace+"jml", "nobody", hour), false},
		{"by another key", sas("another", namespace+"jml", "send", hour), false},
		{"that has expired", sas(key, namespace+"jml", "send", time.Now().Add(-time.Second)), false},
		{"with its end moved", strings.Replace(sas(key, namespace+"jml", "send", hour), fmt.Sprint(hour.Unix()), fmt.Sprint(hour.Unix()+1), 1), false},
		{"that is none", "SharedAccessSignature sr=%zz&se=1", false},
	} {
		c, err := azservicebus.NewClientFromConnectionString("Endpoint=sb://"+b.Host()+"/;SharedAccessSignature="+tt.token, &azservicebus.ClientOptions{TLSConfig: b.TLSConfig()})
		ok(t, err)
		err = sender(t, c, "jml").SendMessage(limited(t), &azservicebus.Message{Body: []byte("x")}, nil)
		if e := (*azservicebus.Error)(nil); (err == nil) != tt.good || err != nil && (!errors.As(err, &e) || e.Code != azservicebus.CodeUnauthorizedAccess) {
			t.Errorf("a signature %s: %v", tt.name, err)
		}
		ok(t, c.Close(context.Background()))
	}
}

// A token that ends takes its links with it.
func TestTokenEnds(t *testing.T) {
	clock := broker.NewManualClock(time.Now())
	b := start(t, broker.Config{Clock: clock})
	s := sender(t, client(t, b, "sender"), "jml")
	m := &azservicebus.Message{Body: []byte("x")}
	ok(t, s.SendMessage(limited(t), m, nil))
	clock.Advance(2*time.Hour + time.Second) // what the client signs is good for two hours of its own clock
	code(t, s.SendMessage(limited(t), m, nil), azservicebus.CodeUnauthorizedAccess)
}

// issued is a credential with one token.
type issued string

func (i issued) GetToken(context.Context, policy.TokenRequestOptions) (azcore.AccessToken, error) {
	return azcore.AccessToken{Token: string(i), ExpiresOn: time.Now().Add(time.Hour)}, nil
}

func TestEntraTokens(t *testing.T) {
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	ok(t, err)
	other, err := rsa.GenerateKey(rand.Reader, 2048)
	ok(t, err)
	token := func(key *rsa.PrivateKey, change map[string]any) issued {
		claims := map[string]any{"aud": "https://servicebus.azure.net", "iss": "https://sts.example/tenant/", "appid": "producer", "nbf": time.Now().Add(-time.Minute).Unix(), "exp": time.Now().Add(time.Hour).Unix()}
		for k, v := range change {
			claims[k] = v
		}
		payload, err := json.Marshal(claims)
		ok(t, err)
		signer, err := jose.NewSigner(jose.SigningKey{Algorithm: jose.RS256, Key: jose.JSONWebKey{Key: key, KeyID: "k"}}, nil)
		ok(t, err)
		sig, err := signer.Sign(payload)
		ok(t, err)
		text, err := sig.CompactSerialize()
		ok(t, err)
		return issued(text)
	}
	b := start(t, broker.Config{Tokens: &broker.EntraTokens{
		Keys:        jose.JSONWebKeySet{Keys: []jose.JSONWebKey{{Key: key.Public(), KeyID: "k"}}},
		Audiences:   []string{"https://servicebus.azure.net"},
		Issuer:      "https://sts.example/tenant/",
		Assignments: []broker.Assignment{{Principal: "producer", Rights: broker.Send, Entity: "jml"}, {Principal: "reader", Rights: broker.Listen}}}})
	for _, tt := range []struct {
		name  string
		token issued
		good  bool
	}{
		{"good", token(key, nil), true},
		{"by object id", token(key, map[string]any{"appid": "x", "oid": "producer"}), true},
		{"of another key", token(other, nil), false},
		{"for another service", token(key, map[string]any{"aud": "https://graph.microsoft.com"}), false},
		{"of another issuer", token(key, map[string]any{"iss": "https://sts.example/other/"}), false},
		{"that has expired", token(key, map[string]any{"exp": time.Now().Unix()}), false},
		{"of a time to come", token(key, map[string]any{"nbf": time.Now().Add(time.Hour).Unix()}), false},
		{"without an end", token(key, map[string]any{"exp": nil}), false},
		{"of nobody known", token(key, map[string]any{"appid": "stranger"}), false},
		{"of somebody who reads", token(key, map[string]any{"appid": "reader"}), false},
		{"that is none", "x.y.z", false},
	} {
		c, err := azservicebus.NewClient(b.Host(), tt.token, &azservicebus.ClientOptions{TLSConfig: b.TLSConfig()})
		ok(t, err)
		err = sender(t, c, "jml").SendMessage(limited(t), &azservicebus.Message{Body: []byte("x")}, nil)
		if e := (*azservicebus.Error)(nil); (err == nil) != tt.good || err != nil && (!errors.As(err, &e) || e.Code != azservicebus.CodeUnauthorizedAccess) {
			t.Errorf("a token %s: %v", tt.name, err)
		}
		ok(t, c.Close(context.Background()))
	}
	plain := start(t, broker.Config{})
	c, err := azservicebus.NewClient(plain.Host(), token(key, nil), &azservicebus.ClientOptions{TLSConfig: plain.TLSConfig()})
	ok(t, err)
	code(t, sender(t, c, "jml").SendMessage(limited(t), &azservicebus.Message{Body: []byte("x")}, nil), azservicebus.CodeUnauthorizedAccess)
	ok(t, c.Close(context.Background()))
}

func TestUnknownEntity(t *testing.T) {
	b := start(t, broker.Config{})
	condition(t, sender(t, client(t, b, "sender"), "nowhere").SendMessage(limited(t), &azservicebus.Message{Body: []byte("x")}, nil), "amqp:not-found")
}
