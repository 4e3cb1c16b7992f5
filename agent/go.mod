module github.com/hashinsight/hashinsight/agent

go 1.26.0

replace github.com/hashinsight/hashinsight/proto => ../proto

require (
	github.com/goccy/go-yaml v1.19.2
	github.com/google/uuid v1.6.0
	github.com/hashinsight/hashinsight/pkg v0.0.0
	github.com/hashinsight/hashinsight/proto v0.0.0
	github.com/prometheus/client_golang v1.25.0
	github.com/spf13/cobra v1.10.2
	go.etcd.io/bbolt v1.5.0
	golang.org/x/sync v0.24.0
	golang.org/x/sys v0.49.0
	google.golang.org/grpc v1.85.0
	google.golang.org/protobuf v1.36.12
	pgregory.net/rapid v1.3.0
)

require github.com/spf13/pflag v1.0.10 // indirect

replace github.com/hashinsight/hashinsight/pkg => ../pkg
