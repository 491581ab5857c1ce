//! middleware.http.uppercase and middleware.http.routeralias.
