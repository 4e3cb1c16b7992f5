module github.com/hashinsight/hashinsight/hub

go 1.26.0

replace github.com/hashinsight/hashinsight/proto => ../proto

require (
	github.com/danielgtaylor/huma/v2 v2.37.2
	github.com/goccy/go-yaml v1.19.2
	github.com/google/uuid v1.6.0
	github.com/hashinsight/hashinsight/pkg v0.0.0
	github.com/hashinsight/hashinsight/proto v0.0.0
	github.com/jackc/pgx/v5 v5.12.0
	github.com/joho/godotenv v1.5.1
	github.com/pressly/goose/v3 v3.29.0
	github.com/prometheus/client_golang v1.25.0
	github.com/spf13/cobra v1.10.2
	golang.org/x/sync v0.24.0
	golang.org/x/sys v0.49.0
	google.golang.org/grpc v1.85.0
	google.golang.org/protobuf v1.36.12
	pgregory.net/rapid v1.3.0
)

require github.com/klauspost/compress v1.20.3

replace github.com/hashinsight/hashinsight/pkg => ../pkg
