package main

import (
	"context"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/sessiond/sessiond/client"
	"github.com/sessiond/sessiond/examples/workers/workersv1"
)

// service implements ContentService. The guard ran before each of its methods,
// so there is always a session.
type service struct {
	workersv1.UnsafeContentServiceServer
}

// titles are all articles there are.
var titles = map[string]string{"1": "On cookies"}

// GetArticle returns one article; codes.NotFound if there is none of that id.
func (service) GetArticle(ctx context.Context, req *workersv1.GetArticleRequest) (*workersv1.GetArticleResponse, error) {
	title, ok := titles[req.GetId()]
	if !ok {
		return nil, status.Error(codes.NotFound, "no such article")
	}
	return &workersv1.GetArticleResponse{Title: title, Viewer: viewer(ctx)}, nil
}

// WatchArticles sends all articles and keeps the stream open until the caller leaves.
func (service) WatchArticles(_ *workersv1.WatchArticlesRequest, stream grpc.ServerStreamingServer[workersv1.WatchArticlesResponse]) error {
	ctx := stream.Context()
	for _, title := range titles {
		if err := stream.Send(&workersv1.WatchArticlesResponse{Title: title, Viewer: viewer(ctx)}); err != nil {
			return err
		}
	}
	<-ctx.Done()
	return status.FromContextError(ctx.Err()).Err()
}

// viewer is the user the call speaks for.
func viewer(ctx context.Context) *workersv1.Viewer {
	s, ok := client.FromContext(ctx)
	if !ok {
		return nil
	}
	return &workersv1.Viewer{UserId: s.UserID, Email: s.User.Email}
}
