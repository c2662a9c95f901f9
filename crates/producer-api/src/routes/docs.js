// No validator, because Swagger UI would use one on another host.
SwaggerUIBundle({
  url: "/openapi.json",
  dom_id: "#interface",
  deepLinking: true,
  docExpansion: "list",
  validatorUrl: null,
});
