module github.com/hashinsight/hashinsight/pkg

go 1.26.0

replace github.com/hashinsight/hashinsight/proto => ../proto

require (
	github.com/google/uuid v1.6.0
	github.com/hashinsight/hashinsight/proto v0.0.0
	github.com/klauspost/compress v1.20.3
	github.com/prometheus/client_golang v1.25.0
	github.com/spf13/cobra v1.10.2
	golang.org/x/sync v0.24.0
	google.golang.org/grpc v1.85.0
	google.golang.org/protobuf v1.36.12
	pgregory.net/rapid v1.3.0
)
