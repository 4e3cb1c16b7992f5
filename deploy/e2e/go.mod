module github.com/hashinsight/hashinsight/deploy/e2e

go 1.26.0

replace github.com/hashinsight/hashinsight/proto => ../../proto

require (
	github.com/hashinsight/hashinsight/agent v0.0.0
	github.com/hashinsight/hashinsight/hub v0.0.0
	github.com/hashinsight/hashinsight/pkg v0.0.0
	github.com/hashinsight/hashinsight/proto v0.0.0
	github.com/jackc/pgx/v5 v5.12.0
	github.com/spf13/cobra v1.10.2
	golang.org/x/sync v0.24.0
	google.golang.org/grpc v1.85.0
)

replace github.com/hashinsight/hashinsight/pkg => ../../pkg

replace github.com/hashinsight/hashinsight/agent => ../../agent

replace github.com/hashinsight/hashinsight/hub => ../../hub
