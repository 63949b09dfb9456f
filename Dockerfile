# docker build -t millrace . && docker run --rm -v "$PWD/runs:/work/runs" millrace quickstart
FROM golang:1.26 AS build
WORKDIR /src
COPY go.mod go.sum ./
RUN go mod download
COPY . .
RUN CGO_ENABLED=0 go build -trimpath -o /millrace .

FROM gcr.io/distroless/static-debian12:nonroot
COPY --from=build /millrace /usr/local/bin/millrace
WORKDIR /work
ENTRYPOINT ["/usr/local/bin/millrace"]
