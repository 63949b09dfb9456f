# docker build -t millrace . && docker run --rm -v millrace-runs:/home/nonroot/runs millrace quickstart
FROM golang:1.26 AS build
WORKDIR /src
COPY go.mod go.sum ./
RUN go mod download
COPY . .
RUN CGO_ENABLED=0 go build -trimpath -o /millrace . && mkdir /runs

FROM gcr.io/distroless/static-debian12:nonroot
COPY --from=build /millrace /usr/local/bin/millrace
COPY --from=build --chown=nonroot:nonroot /runs /home/nonroot/runs
WORKDIR /home/nonroot
ENTRYPOINT ["/usr/local/bin/millrace"]
