package doctor

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"maps"
	"net"
	"slices"
	"strings"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	healthv1 "google.golang.org/grpc/health/grpc_health_v1"
	reflectionv1 "google.golang.org/grpc/reflection/grpc_reflection_v1"
	"google.golang.org/grpc/status"

	sessiondv1 "github.com/sessiond/sessiond/gen/sessiond/v1"
)

// callTimeout bounds what one replica is asked.
const callTimeout = 5 * time.Second

// dial returns a connection to an address, under the name of the configured one.
func (x *examination) dial(address string) (*grpc.ClientConn, error) {
	transport := insecure.NewCredentials()
	if x.TLS != nil {
		config := x.TLS.Clone()
		if host, _, err := net.SplitHostPort(x.Address); err == nil && config.ServerName == "" {
			config.ServerName = host
		}
		transport = credentials.NewTLS(config)
	}
	return grpc.NewClient("passthrough:///"+address, grpc.WithTransportCredentials(transport))
}

// replicaState is what one replica says of itself.
type replicaState struct {
	address string
	digest  string
	bound   time.Duration
	serving bool
	// contract is a digest of the services it offers and their descriptions: other
	// versions of sessiond may have another.
	contract string
}

func checkReplicas(ctx context.Context, x *examination) []Finding {
	if x.Address == "" {
		return one(Skipped, "no authority was named (--server)")
	}
	host, port, err := net.SplitHostPort(x.Address)
	if err != nil {
		return one(Fail, "--server: %q is not host:port", x.Address)
	}
	hosts, err := x.Resolve(ctx, host)
	if err != nil {
		return []Finding{mend(Fail, "the name given with --server, and DNS", "%s cannot be resolved", host)}
	}
	slices.Sort(hosts)
	var found []Finding
	var states []replicaState
	for _, h := range slices.Compact(hosts) {
		address := net.JoinHostPort(h, port)
		s, err := x.askReplica(ctx, address)
		switch {
		case err != nil:
			found = append(found, mend(Fail, "look whether it runs, and whether TLS is spoken on both sides (--server-tls)", "%s does not answer: %s", address, status.Convert(err).Message()))
			continue
		case !s.serving:
			found = append(found, mend(Fail, "its log, and its /readyz", "%s says that it is not serving: its store is away, or it is ending", address))
		}
		states = append(states, s)
	}
	return append(found, x.alike(states)...)
}

func (x *examination) askReplica(ctx context.Context, address string) (replicaState, error) {
	conn, err := x.dial(address)
	if err != nil {
		return replicaState{}, err
	}
	defer conn.Close() //nolint:errcheck // nothing was sent that needs an answer
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	health, err := healthv1.NewHealthClient(conn).Check(ctx, &healthv1.HealthCheckRequest{})
	if err != nil {
		return replicaState{}, err
	}
	in, err := sessiondv1.NewSessionServiceClient(conn).GetIntake(ctx, &sessiondv1.GetIntakeRequest{})
	if err != nil {
		return replicaState{}, err
	}
	contract, err := contractOf(ctx, reflectionv1.NewServerReflectionClient(conn))
	if err != nil {
		return replicaState{}, err
	}
	return replicaState{
		address: address, contract: contract,
		digest:  hex.EncodeToString(in.GetConfigDigest()),
		bound:   in.GetStalenessBound().AsDuration(),
		serving: health.GetStatus() == healthv1.HealthCheckResponse_SERVING,
	}, nil
}

// contractOf asks by reflection what a replica offers.
func contractOf(ctx context.Context, c reflectionv1.ServerReflectionClient) (string, error) {
	stream, err := c.ServerReflectionInfo(ctx)
	if err != nil {
		return "", err
	}
	ask := func(req *reflectionv1.ServerReflectionRequest) (*reflectionv1.ServerReflectionResponse, error) {
		if err := stream.Send(req); err != nil {
			return nil, err
		}
		return stream.Recv()
	}
	list, err := ask(&reflectionv1.ServerReflectionRequest{MessageRequest: &reflectionv1.ServerReflectionRequest_ListServices{}})
	if err != nil {
		return "", err
	}
	digest := sha256.New()
	for _, s := range list.GetListServicesResponse().GetService() { // in order, by its contract
		resp, err := ask(&reflectionv1.ServerReflectionRequest{MessageRequest: &reflectionv1.ServerReflectionRequest_FileContainingSymbol{FileContainingSymbol: s.GetName()}})
		if err != nil {
			return "", err
		}
		digest.Write([]byte(s.GetName()))
		for _, file := range resp.GetFileDescriptorResponse().GetFileDescriptorProto() {
			digest.Write(file)
		}
	}
	return hex.EncodeToString(digest.Sum(nil)), stream.CloseSend()
}

// kindsOf says which replicas are of which kind; nil: all are of one.
func kindsOf(states []replicaState, kindOf func(replicaState) string) []string {
	kinds := make(map[string][]string)
	for _, s := range states {
		kinds[kindOf(s)] = append(kinds[kindOf(s)], s.address)
	}
	if len(kinds) < 2 {
		return nil
	}
	var parts []string
	for _, kind := range slices.Sorted(maps.Keys(kinds)) {
		parts = append(parts, strings.Join(kinds[kind], ", ")+": "+kind)
	}
	return parts
}

// alike compares the replicas with each other and with the configuration here.
func (x *examination) alike(states []replicaState) []Finding {
	if len(states) == 0 {
		return nil
	}
	if parts := kindsOf(states, func(s replicaState) string { return fmt.Sprintf("offers %.8s", s.contract) }); parts != nil {
		return []Finding{mend(Warn, "finish the upgrade: one version for all", "%d replicas are of different versions: %s", len(states), strings.Join(parts, "; "))}
	}
	parts := kindsOf(states, func(s replicaState) string {
		return fmt.Sprintf("configuration %.8s, staleness bound %v", s.digest, s.bound)
	})
	if parts != nil {
		return []Finding{mend(Fail, "one configuration for all, and a restart of those that have another", "%d replicas are not configured alike: %s", len(states), strings.Join(parts, "; "))}
	}
	if x.configErr == nil && states[0].digest != hex.EncodeToString(x.authority.Intake().ConfigDigest) {
		return []Finding{mend(Warn, "run doctor with the file and the environment that serve has",
			"all replicas (%d) have another configuration than the one read here, of which the checks speak", len(states))}
	}
	return one(OK, "replicas: %d, configured as here", len(states))
}
